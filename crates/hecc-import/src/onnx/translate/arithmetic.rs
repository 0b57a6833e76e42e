//! Operators on elements, and products of matrices.

use super::super::ImportError;
use super::super::proto::Node;
use super::super::tensor::Array;
use super::attributes::Attributes;
use super::{
    INSTANCES, Made, Result, Translator, Value, like, node_name, number, plain, reshaped,
    unsupported,
};

impl<'a> Translator<'a> {
    /// Two operands as they broadcast in the model, each written without the axis of instances.
    pub(super) fn broadcast(
        &mut self,
        node: &'a Node,
        a: Value,
        b: Value,
    ) -> Result<(Value, Value, Made)> {
        let (mut a, mut b) = (a, b);
        let batched = a.batched || b.batched;
        if a.batched && b.batched && a.rank() != b.rank() {
            return Err(unsupported(
                node,
                format!("its operands have {} and {} axes", a.rank(), b.rank()),
                INSTANCES,
            ));
        }
        let (a_rank, b_rank) = (a.rank(), b.rank());
        let (a_batched, b_batched) = (a.batched, b.batched);
        let (a_scalar, b_scalar) = (is_number(&a), is_number(&b));
        self.align(node, &mut a, b_batched, b_rank, !b_scalar)?;
        self.align(node, &mut b, a_batched, a_rank, !a_scalar)?;
        let shape = numpy(&a.shape, &b.shape).ok_or_else(|| {
            ImportError::Malformed(format!(
                "{} has operands of shapes {:?} and {:?}",
                node_name(node),
                a.shape,
                b.shape
            ))
        })?;
        let made = Made {
            text: String::new(),
            shape,
            batched,
            secret: a.secret || b.secret,
        };
        Ok((a, b, made))
    }

    /// Writes an operand so that it broadcasts in the program as in the model: without the axis of
    /// extent 1 that meets an axis of instances, and as a number where one element goes with all.
    pub(super) fn align(
        &mut self,
        node: &'a Node,
        one: &mut Value,
        other_batched: bool,
        other_rank: usize,
        with_tensor: bool,
    ) -> Result<()> {
        let meets = other_batched && !one.batched;
        let rank = one.rank();
        if meets && (rank > other_rank || (rank == other_rank && one.shape.first() != Some(&1))) {
            return Err(unsupported(
                node,
                format!(
                    "one operand has shape {:?}, and the other {other_rank} axes of which the first counts instances",
                    one.shape
                ),
                INSTANCES,
            ));
        }
        if let Some(value) = one.known().and_then(Array::scalar)
            && with_tensor
            && rank <= other_rank
        {
            one.shape = Vec::new();
            one.text = number(value);
            return Ok(());
        }
        if meets && rank == other_rank {
            one.shape.remove(0);
            if one.known.is_none() {
                one.text = reshaped(&one.text, &one.shape);
            }
        }
        self.name_constant_in_shape(one)
    }

    /// Names a value whose shape may have lost a leading axis of extent 1.
    pub(super) fn name_constant_in_shape(&mut self, value: &mut Value) -> Result<()> {
        let full = match value.known() {
            Some(array) => array.shape.clone(),
            None => return Ok(()),
        };
        let shape = std::mem::replace(&mut value.shape, full);
        self.name_constant(value)?;
        if shape != value.shape {
            value.text = reshaped(&value.text, &shape);
            value.shape = shape;
        }
        Ok(())
    }

    pub(super) fn elementwise(&mut self, node: &'a Node, operator: &str) -> Result<()> {
        Attributes::of(node, &[])?;
        let (a, b) = (self.operand(node, 0)?, self.operand(node, 1)?);
        if operator == "/" && b.secret {
            return Err(unsupported(
                node,
                "it divides by a secret value",
                "write the quotient by hand with `approx(inv, x, on = [LO, HI], degree = N)`, or divide by a constant",
            ));
        }
        let (a, b, mut made) = self.broadcast(node, a, b)?;
        made.text = format!("{} {operator} {}", a.text, b.text);
        self.bind(node, made)
    }

    pub(super) fn sum(&mut self, node: &'a Node) -> Result<()> {
        Attributes::of(node, &[])?;
        let mut all = self.operand(node, 0)?;
        self.name_constant(&mut all)?;
        for at in 1..node.input.len() {
            let next = self.operand(node, at)?;
            let (a, b, made) = self.broadcast(node, all, next)?;
            all = Value {
                text: format!("{} + {}", a.text, b.text),
                shape: made.shape,
                batched: made.batched,
                secret: made.secret,
                known: None,
                statement: None,
            };
        }
        self.bind(
            node,
            Made {
                text: all.text,
                shape: all.shape,
                batched: all.batched,
                secret: all.secret,
            },
        )
    }

    pub(super) fn power(&mut self, node: &'a Node) -> Result<()> {
        Attributes::of(node, &[])?;
        let x = self.tensor(node, 0)?;
        let exponent = self.operand(node, 1)?;
        let exponent = exponent.known().and_then(Array::scalar);
        let most = f64::from(u16::MAX);
        match exponent {
            Some(n) if n.fract() == 0.0 && (0.0..=most).contains(&n) => {
                let text = format!("{} ^ {n}", x.text);
                self.bind(node, like(&x, text))
            }
            _ => Err(unsupported(
                node,
                "its exponent is no whole number of 0 or more that the model holds",
                "write it with `approx` by hand, or train with squares",
            )),
        }
    }

    pub(super) fn unary(&mut self, node: &'a Node, text: impl Fn(&str) -> String) -> Result<()> {
        Attributes::of(node, &[])?;
        let x = self.tensor(node, 0)?;
        let text = text(&x.text);
        self.bind(node, like(&x, text))
    }

    pub(super) fn approximate(&mut self, node: &'a Node, function: &str) -> Result<()> {
        let attributes = Attributes::of(node, &["approximate"])?;
        if attributes.text("approximate")?.is_some_and(|a| a != "none") {
            return Err(unsupported(
                node,
                "it is the approximated form",
                "export it with approximate=\"none\"",
            ));
        }
        let x = self.tensor(node, 0)?;
        let original = node.input.first().map_or("", String::as_str);
        let range = self.range(original, &x.text).or_else(|| {
            x.statement
                .and_then(|s| self.statements.get(s))
                .and_then(|s| s.range)
        });
        let (Some([lo, hi]), Some(degree)) = (range, self.options.degree) else {
            return Err(unsupported(
                node,
                format!(
                    "a polynomial has to stand in for it, and {} not known",
                    match range {
                        Some(_) => "its degree is".to_owned(),
                        None => format!("the range of its operand `{}` is", x.text),
                    }
                ),
                format!(
                    "give --range {}=LO,HI, the values that it takes on your data, and --degree N; or train with squares (Mul of a value by itself)",
                    x.text
                ),
            ));
        };
        self.used_degree = true;
        let text = format!(
            "approx({function}, {}, on = [{}, {}], degree = {degree})",
            x.text,
            plain(lo),
            plain(hi)
        );
        self.bind(node, like(&x, text))
    }

    pub(super) fn gemm(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(node, &["alpha", "beta", "transA", "transB"])?;
        let (alpha, beta) = (
            attributes.float("alpha", 1.0),
            attributes.float("beta", 1.0),
        );
        if !alpha.is_finite() || !beta.is_finite() {
            return Err(ImportError::Malformed(format!(
                "{} has a factor that is no number",
                node_name(node)
            )));
        }
        let turned = |v: i64| v != 0;
        let a = self.tensor(node, 0)?;
        let b = self.tensor(node, 1)?;
        if a.rank() != 2 || b.rank() != 2 {
            return Err(unsupported(
                node,
                format!("its operands have {} and {} axes", a.rank(), b.rank()),
                "Gemm multiplies matrices: flatten its operand first",
            ));
        }
        let product = self.product(
            node,
            (a, turned(attributes.int("transA", 0))),
            (b, turned(attributes.int("transB", 0))),
        )?;
        let mut text = product.text;
        if alpha != 1.0 {
            text = format!("{} * ({text})", number(alpha));
        }
        let value = Value {
            text,
            shape: product.shape,
            batched: product.batched,
            secret: product.secret,
            known: None,
            statement: None,
        };
        let Some(c) = self.optional(node, 2)? else {
            return self.bind(
                node,
                Made {
                    text: value.text,
                    shape: value.shape,
                    batched: value.batched,
                    secret: value.secret,
                },
            );
        };
        let shape = value.shape.clone();
        let (value, c, mut made) = self.broadcast(node, value, c)?;
        if made.shape != shape {
            return Err(ImportError::Malformed(format!(
                "{} adds shape {:?} to shape {shape:?}",
                node_name(node),
                c.shape
            )));
        }
        made.text = if beta == 1.0 {
            format!("{} + {}", value.text, c.text)
        } else {
            format!("{} + {} * {}", value.text, number(beta), c.text)
        };
        self.bind(node, made)
    }

    pub(super) fn matmul(&mut self, node: &'a Node) -> Result<()> {
        Attributes::of(node, &[])?;
        let (a, b) = (self.tensor(node, 0)?, self.tensor(node, 1)?);
        let made = self.product(node, (a, false), (b, false))?;
        self.bind(node, made)
    }

    /// The product of two matrices or vectors, each with whether it is transposed first. A matrix whose
    /// first axis counts instances is a vector in the program.
    pub(super) fn product(
        &mut self,
        node: &'a Node,
        a: (Value, bool),
        b: (Value, bool),
    ) -> Result<Made> {
        let ((a, a_turned), (b, b_turned)) = (a, b);
        let mixes = |why: &str| unsupported(node, why, INSTANCES);
        if (a.batched && a.rank() == 2 && a_turned) || (b.batched && b.rank() == 2) {
            return Err(mixes("it sums over instances"));
        }
        let rank = a.shape.len().max(b.shape.len());
        if rank > 2 || a.shape.is_empty() || b.shape.is_empty() {
            return Err(unsupported(
                node,
                format!(
                    "its operands have shapes {:?} and {:?} in the program",
                    a.shape, b.shape
                ),
                "products are of matrices and vectors: split it into products of matrices",
            ));
        }
        // In the model a batch of vectors is a matrix; a batch of matrices broadcasts.
        let a_vector = a.shape.len() == 1;
        if a_vector && a.batched && a.rank() == 2 && b.batched {
            return Err(mixes(
                "both operands depend on the instance, and it would mix them",
            ));
        }
        let turn = |v: &Value, turned: bool| {
            let mut shape = v.shape.clone();
            let mut text = v.text.clone();
            if turned && shape.len() == 2 {
                shape.swap(0, 1);
                text.push('\'');
            }
            (text, shape)
        };
        let fits = |inner: (usize, usize)| {
            if inner.0 == inner.1 {
                Ok(())
            } else {
                Err(ImportError::Malformed(format!(
                    "{} has operands of shapes {:?} and {:?}",
                    node_name(node),
                    a.shape,
                    b.shape
                )))
            }
        };
        let (text, shape) = if a_vector && b_turned && b.shape.len() == 2 {
            // x B' is B x, which reads better.
            fits((a.shape[0], b.shape[1]))?;
            (format!("{} @ {}", b.text, a.text), vec![b.shape[0]])
        } else {
            let (left, a_shape) = turn(&a, a_turned);
            let (right, b_shape) = turn(&b, b_turned);
            fits((a_shape[a_shape.len() - 1], b_shape[0]))?;
            let mut shape = a_shape[..a_shape.len() - 1].to_vec();
            shape.extend_from_slice(&b_shape[1..]);
            (format!("{left} @ {right}"), shape)
        };
        Ok(Made {
            text,
            shape,
            batched: a.batched || b.batched,
            secret: a.secret || b.secret,
        })
    }
}

/// Whether it is an array of one element that the model holds.
fn is_number(value: &Value) -> bool {
    value.known().is_some_and(|a| a.scalar().is_some())
}

/// The shape that two shapes broadcast to.
fn numpy(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let extent = |s: &[usize], i: usize| match (i + s.len()).checked_sub(rank) {
        Some(at) => s[at],
        None => 1,
    };
    (0..rank)
        .map(|i| match (extent(a, i), extent(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}
