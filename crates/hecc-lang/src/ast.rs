//! The syntax tree of a `.hec` file.
//!
//! The tree says what is written, not what it means: names are unresolved, shapes are expressions,
//! constants are unevaluated. Every node carries the [`Span`] of its source text.
//!
//! Invariants that a tree from [`crate::parse`] keeps, with or without syntax errors:
//! - no path from the root is longer than a few times [`MAX_DEPTH`], so recursive walks are safe;
//! - long left-associative operator chains are flat ([`ExprKind::Chain`]), and so are
//!   `else if` ladders ([`If::branches`]);
//! - [`ExprKind::Error`] occurs only beside at least one error diagnostic.

use hecc_ir::span::Span;

/// How deep expressions, and separately blocks, may nest. One more is an error, never a stack overflow.
pub const MAX_DEPTH: usize = 256;

/// A name as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ident {
    /// The name itself.
    pub name: String,
    /// Where it stands.
    pub span: Span,
}

/// A string literal.
#[derive(Clone, Debug, PartialEq)]
pub struct Str {
    /// The text, escapes resolved.
    pub value: String,
    /// Where it stands, quotes included.
    pub span: Span,
}

/// A whole file.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// What the file declares, in source order.
    pub items: Vec<Item>,
    /// The whole text.
    pub span: Span,
}

/// One declaration of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// `use "FILE";`
    Use(Use),
    /// `const NAME [: TYPE] = EXPR;`
    Const(Const),
    /// `fn NAME(a, b) = EXPR;` or with a block
    Fn(Fn),
    /// `circuit NAME(…) -> … { … }`
    Circuit(Circuit),
}

impl Item {
    /// Where the item stands, attributes included, doc comments not.
    pub fn span(&self) -> Span {
        match self {
            Item::Use(item) => item.span,
            Item::Const(item) => item.span,
            Item::Fn(item) => item.span,
            Item::Circuit(item) => item.span,
        }
    }
}

/// `use "FILE";`
#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    /// The path as written, relative to the file that holds this item.
    pub path: Str,
    /// The whole item.
    pub span: Span,
}

/// `const NAME [: TYPE] = EXPR;`
#[derive(Clone, Debug, PartialEq)]
pub struct Const {
    /// The `///` lines before the item, without the slashes and one space.
    pub docs: Vec<String>,
    /// The name.
    pub name: Ident,
    /// The declared type.
    pub ty: Option<Type>,
    /// The value.
    pub value: Expr,
    /// The whole item.
    pub span: Span,
}

/// `fn NAME(a, b) = EXPR;` or `fn NAME(a, b) { … return EXPR; }`
#[derive(Clone, Debug, PartialEq)]
pub struct Fn {
    /// The `///` lines before the item, without the slashes and one space.
    pub docs: Vec<String>,
    /// The name.
    pub name: Ident,
    /// Parameter names; shapes and secrecy come from the call.
    pub params: Vec<Ident>,
    /// The body.
    pub body: FnBody,
    /// The whole item.
    pub span: Span,
}

/// The body of a function.
#[derive(Clone, Debug, PartialEq)]
pub enum FnBody {
    /// `= EXPR;`
    Expr(Expr),
    /// `{ … return EXPR; }`
    Block(Block),
}

/// `circuit NAME(PARAMS) -> OUT { … return EXPR; }`
#[derive(Clone, Debug, PartialEq)]
pub struct Circuit {
    /// The `///` lines before the item, without the slashes and one space.
    pub docs: Vec<String>,
    /// Attributes, in source order. Their names and keys are known ones; their values are unchecked.
    pub attributes: Vec<Attribute>,
    /// The name.
    pub name: Ident,
    /// The parameters.
    pub params: Vec<Param>,
    /// The outputs; at least one unless there was a syntax error.
    pub outputs: Vec<Output>,
    /// The body. Its last statement is a `return` unless there was a syntax error.
    pub body: Block,
    /// The whole item.
    pub span: Span,
}

/// Who knows a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Secrecy {
    /// Encrypted.
    Secret,
    /// Known to whoever evaluates.
    Public,
}

/// `name: secret|public TYPE [in [LO, HI]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// The name.
    pub name: Ident,
    /// Who knows the value.
    pub secrecy: Secrecy,
    /// The type.
    pub ty: Type,
    /// The declared range of every element.
    pub range: Option<Range>,
    /// The whole parameter.
    pub span: Span,
}

/// `name: TYPE [in [LO, HI]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The name.
    pub name: Ident,
    /// The type.
    pub ty: Type,
    /// The declared range of every element.
    pub range: Option<Range>,
    /// The whole output.
    pub span: Span,
}

/// `real` or `real[n, m, …]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    /// One expression per dimension, outermost first; none for a scalar.
    pub dims: Vec<Expr>,
    /// The whole type.
    pub span: Span,
}

/// The `[LO, HI]` after `in`.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    /// Smallest value.
    pub lo: Expr,
    /// Largest value.
    pub hi: Expr,
    /// From the bracket to the bracket.
    pub span: Span,
}

/// `@name(key = value, value, …)`
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// The name, without `@`.
    pub name: Ident,
    /// The arguments; bare words such as `full` are [`ExprKind::Name`].
    pub args: Vec<Arg>,
    /// From `@` to the end of the arguments.
    pub span: Span,
}

/// An argument of a call or an attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct Arg {
    /// The key of `key = value`.
    pub key: Option<Ident>,
    /// The value.
    pub value: Expr,
    /// The whole argument.
    pub span: Span,
}

/// `{ … }`
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The statements in order. Only the outermost block of a function or circuit may end in
    /// [`StmtKind::Return`], and nothing follows it.
    pub stmts: Vec<Stmt>,
    /// From brace to brace.
    pub span: Span,
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Stmt {
    /// Attributes before it: only `let` and `for` have any.
    pub attributes: Vec<Attribute>,
    /// What it does.
    pub kind: StmtKind,
    /// The whole statement, attributes included.
    pub span: Span,
}

/// What a statement does.
#[derive(Clone, Debug, PartialEq)]
pub enum StmtKind {
    /// `let NAME [in [LO, HI]] = EXPR;`
    Let {
        /// The new name.
        name: Ident,
        /// The declared range of its elements.
        range: Option<Range>,
        /// The value.
        value: Expr,
    },
    /// `var NAME = EXPR;`
    Var {
        /// The new name.
        name: Ident,
        /// The first value.
        value: Expr,
    },
    /// `NAME = EXPR;`, `NAME[i] = EXPR;`, `NAME[i, j][a..b] = EXPR;`
    Assign {
        /// The variable.
        name: Ident,
        /// The subscripts, one per bracket pair, in order; none assigns the whole variable.
        subscripts: Vec<Subscript>,
        /// The new value.
        value: Expr,
    },
    /// `for NAME in START..END { … }`
    For(For),
    /// `if COND { … } else if COND { … } else { … }`
    If(If),
    /// `return EXPR;` or `return (A, B);`
    Return {
        /// The returned values; at least one.
        values: Vec<Expr>,
    },
    /// `assert(COND, "text");`
    Assert {
        /// The compile-time condition.
        cond: Expr,
        /// What to say when it fails.
        message: Option<Str>,
    },
}

/// `for NAME in START..END { … }`
#[derive(Clone, Debug, PartialEq)]
pub struct For {
    /// The loop variable, a compile-time integer in the body.
    pub var: Ident,
    /// First value.
    pub start: Expr,
    /// One past the last value.
    pub end: Expr,
    /// The body.
    pub body: Block,
}

/// `if COND { … } else if COND { … } else { … }`
#[derive(Clone, Debug, PartialEq)]
pub struct If {
    /// The conditions with their blocks, in order; at least one.
    pub branches: Vec<(Expr, Block)>,
    /// The block of the last `else`.
    pub otherwise: Option<Block>,
}

/// One pair of index brackets.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscript {
    /// One index per leading dimension; at least one.
    pub indices: Vec<Index>,
    /// From bracket to bracket.
    pub span: Span,
}

/// An index or a slice in one dimension.
#[derive(Clone, Debug, PartialEq)]
pub enum Index {
    /// `i`: takes one and drops the dimension.
    At(Expr),
    /// `a..b`, half open; `a..`, `..b` and `..` reach to the ends.
    Slice {
        /// First index, 0 when absent.
        start: Option<Expr>,
        /// One past the last index, the dimension's size when absent.
        end: Option<Expr>,
        /// The whole slice.
        span: Span,
    },
}

impl Index {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Index::At(expr) => expr.span,
            Index::Slice { span, .. } => *span,
        }
    }
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// What an expression is.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// `42`
    Int(i64),
    /// `2.5e-3`; finite.
    Real(f64),
    /// `"text"`: only `load` takes one.
    Str(String),
    /// A name.
    Name(String),
    /// `[a, b, c]`; may be empty.
    List(Vec<Expr>),
    /// `[ELEMENT for VAR in START..END]`
    Comprehension {
        /// One element, in terms of the variable.
        element: Box<Expr>,
        /// The variable, a compile-time integer.
        var: Ident,
        /// First value.
        start: Box<Expr>,
        /// One past the last value.
        end: Box<Expr>,
    },
    /// `(EXPR)`
    Paren(Box<Expr>),
    /// `-x`, `!c`
    Unary {
        /// The operator.
        op: UnaryOp,
        /// Its operand.
        operand: Box<Expr>,
    },
    /// Left-associative operators of one precedence: `first op rest[0] op rest[1] …`, to be folded from
    /// the left. `rest` is never empty, and all operators share [`BinaryOp::precedence`].
    Chain {
        /// The leftmost operand.
        first: Box<Expr>,
        /// Each further operator with its right operand.
        rest: Vec<Link>,
    },
    /// An operator that does not chain to the left: a comparison or `^`.
    Binary {
        /// The operator.
        op: BinaryOp,
        /// Where the operator stands.
        op_span: Span,
        /// Left operand.
        lhs: Box<Expr>,
        /// Right operand.
        rhs: Box<Expr>,
    },
    /// `x'`
    Transpose(Box<Expr>),
    /// `x[i, a..b]`
    Index {
        /// What is indexed.
        base: Box<Expr>,
        /// The brackets.
        subscript: Subscript,
    },
    /// `f(a, key = b)`
    Call {
        /// The function's name: functions are no values.
        callee: Ident,
        /// The arguments; positional ones come first.
        args: Vec<Arg>,
    },
    /// Stands where a syntax error was reported.
    Error,
}

/// One operator of a [`ExprKind::Chain`] with its right operand.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The operator.
    pub op: BinaryOp,
    /// Where the operator stands.
    pub op_span: Span,
    /// The right operand.
    pub operand: Expr,
}

/// A prefix operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `-`
    Neg,
    /// `!`
    Not,
}

impl UnaryOp {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            UnaryOp::Neg => "-",
            UnaryOp::Not => "!",
        }
    }
}

/// An infix operator.
///
/// From loosest to tightest:
///
/// | precedence | operators | associativity |
/// | --- | --- | --- |
/// | 1 | `\|\|` | left |
/// | 2 | `&&` | left |
/// | 3 | `==` `!=` `<` `<=` `>` `>=` | none: `a < b < c` is an error |
/// | 4 | `+` `-` | left |
/// | 5 | `*` `/` `@` `%` | left |
/// | 6 | unary `-` `!` | prefix |
/// | 7 | `^` | right; its right side may start with a unary minus |
/// | 8 | `'` `[…]` `(…)` | postfix |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `||`
    Or,
    /// `&&`
    And,
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `@`
    MatMul,
    /// `%`
    Rem,
    /// `^`
    Pow,
}

impl BinaryOp {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Or => "||",
            BinaryOp::And => "&&",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Lt => "<",
            BinaryOp::Le => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::Ge => ">=",
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::MatMul => "@",
            BinaryOp::Rem => "%",
            BinaryOp::Pow => "^",
        }
    }

    /// How tight it binds, as in the table above.
    pub fn precedence(self) -> u8 {
        match self {
            BinaryOp::Or => 1,
            BinaryOp::And => 2,
            BinaryOp::Eq
            | BinaryOp::Ne
            | BinaryOp::Lt
            | BinaryOp::Le
            | BinaryOp::Gt
            | BinaryOp::Ge => 3,
            BinaryOp::Add | BinaryOp::Sub => 4,
            BinaryOp::Mul | BinaryOp::Div | BinaryOp::MatMul | BinaryOp::Rem => 5,
            BinaryOp::Pow => 7,
        }
    }
}
