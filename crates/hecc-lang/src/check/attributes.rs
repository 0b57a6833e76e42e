//! Attributes of circuits and loops: what they mean and which values they take.

use hecc_ir::diag::Diagnostic;
use hecc_ir::span::Span;
use hecc_ir::tensor::{Budget, CkksOverrides, Precompute, TensorMeta, Unroll};

use super::expr::{Checker, Flow};
use super::value::Value;
use crate::ast::{self, ExprKind};

/// Attributes of a `for`.
pub(crate) struct LoopAttributes {
    pub unroll: Option<Unroll>,
    pub pipeline: bool,
    /// Where the first attribute stands that only a loop that is kept as one obeys.
    pub span: Option<Span>,
}

impl<'a> Checker<'a> {
    pub(crate) fn circuit_attributes(&mut self, c: &'a ast::Circuit) -> Flow<TensorMeta> {
        let mut meta = TensorMeta::default();
        for a in &c.attributes {
            match a.name.name.as_str() {
                "budget" => {
                    let mut budget = Budget::default();
                    for arg in &a.args {
                        let Some(n) = self.count(arg, 0, u64::MAX)? else {
                            continue;
                        };
                        let slot = match key(arg) {
                            "depth" => &mut budget.depth,
                            "levels" => &mut budget.levels,
                            "width" => &mut budget.width,
                            "mult_width" => &mut budget.mult_width,
                            "muls" => &mut budget.muls,
                            "rotations" => &mut budget.rotations,
                            _ => {
                                self.bad_key(
                                    a,
                                    arg,
                                    "depth, levels, width, mult_width, muls, rotations",
                                );
                                continue;
                            }
                        };
                        *slot = Some(n);
                    }
                    meta.budget = Some((budget, a.span));
                }
                "batch" => match a.args.as_slice() {
                    [arg] if arg.key.is_none() => {
                        meta.batch = self.count(arg, 1, 1 << 20)?.map(|n| n as u32);
                    }
                    _ => self.usage(a, "@batch(64)"),
                },
                "precision" => match a.args.as_slice() {
                    [arg] if arg.key.is_none() => {
                        let value = self.eval(&arg.value)?;
                        meta.precision = self.real(&value, arg.value.span, "the precision")?;
                    }
                    _ => self.usage(a, "@precision(16)"),
                },
                "precompute" => {
                    let (mut degree, mut inputs) = (None, None);
                    for arg in &a.args {
                        match key(arg) {
                            "degree" => degree = self.count(arg, 1, 64)?.map(|n| n as u32),
                            "inputs" => {
                                let value = self.eval(&arg.value)?;
                                inputs =
                                    self.real(&value, arg.value.span, "the growth of the inputs")?;
                                if let Some(r) = inputs.filter(|r| *r < 1.0) {
                                    self.report(
                                        Diagnostic::error(
                                            "E1031",
                                            arg.value.span,
                                            format!("inputs = {r:?} leaves no room for the inputs themselves"),
                                            "a factor of 1 or more is expected",
                                        )
                                        .with_help("write `inputs = 2.0` to allow twice as many"),
                                    );
                                }
                            }
                            _ => self.bad_key(a, arg, "degree, inputs"),
                        }
                    }
                    let given = |k: &str| a.args.iter().any(|arg| key(arg) == k);
                    if !given("degree") || !given("inputs") {
                        self.usage(a, "@precompute(degree = 2, inputs = 2.0)");
                    }
                    meta.precompute = degree
                        .zip(inputs)
                        .map(|(degree, inputs)| Precompute { degree, inputs });
                }
                "keep" => {
                    if !a.args.is_empty() {
                        self.usage(a, "@keep");
                    }
                    meta.keep = true;
                }
                "ckks" => meta.ckks = self.ckks(a)?,
                _ => self.usage(a, "@budget(depth = 3)"),
            }
        }
        Ok(meta)
    }

    fn ckks(&mut self, a: &'a ast::Attribute) -> Flow<CkksOverrides> {
        let mut out = CkksOverrides::default();
        for arg in &a.args {
            match key(arg) {
                "scale_bits" => out.scale_bits = self.count(arg, 10, 60)?.map(|n| n as u32),
                "security" => out.security = self.count(arg, 0, 256)?.map(|n| n as u32),
                "ring" => {
                    let ring = self.count(arg, 1 << 10, 1 << 17)?;
                    match ring {
                        Some(n) if !n.is_power_of_two() => {
                            let near = n.next_power_of_two();
                            self.report(
                                Diagnostic::error(
                                    "E1031",
                                    arg.value.span,
                                    format!("the ring degree {n} is no power of two"),
                                    "a power of two is expected",
                                )
                                .with_help(format!("write `ring = {near}`")),
                            );
                        }
                        ring => out.ring = ring,
                    }
                }
                _ => self.bad_key(a, arg, "scale_bits, security, ring"),
            }
        }
        Ok(out)
    }

    pub(crate) fn loop_attributes(&mut self, s: &'a ast::Stmt) -> Flow<LoopAttributes> {
        let mut out = LoopAttributes {
            unroll: None,
            pipeline: true,
            span: None,
        };
        for a in &s.attributes {
            match (a.name.name.as_str(), a.args.as_slice()) {
                ("unroll", [arg]) if arg.key.is_none() && word(arg) == Some("full") => {
                    out.unroll = Some(Unroll::Full);
                }
                ("unroll", [arg]) if arg.key.is_none() => {
                    if let Some(n) = self.count(arg, 1, u64::from(u32::MAX))? {
                        out.unroll = Some(Unroll::By(n as u32));
                        out.span = out.span.or(Some(a.span));
                    }
                }
                ("pipeline", [arg]) if arg.key.is_none() && word(arg) == Some("off") => {
                    out.pipeline = false;
                    out.span = out.span.or(Some(a.span));
                }
                ("pipeline", _) => self.usage(a, "@pipeline(off)"),
                _ => self.usage(a, "@unroll(4)` or `@unroll(full)"),
            }
        }
        Ok(out)
    }

    /// The integer value of an argument, within bounds; None after an error.
    fn count(&mut self, arg: &'a ast::Arg, lo: u64, hi: u64) -> Flow<Option<u64>> {
        let value = self.eval(&arg.value)?;
        if let Value::Run(_) | Value::Index(_) = value {
            self.expected("a constant", &value, arg.value.span);
            return Ok(None);
        }
        let Some(n) = self.int(&value, arg.value.span, "the value of an attribute")? else {
            return Ok(None);
        };
        match u64::try_from(n) {
            Ok(n) if (lo..=hi).contains(&n) => Ok(Some(n)),
            _ => {
                let bounds = if hi == u64::MAX {
                    format!("{lo} or more is expected")
                } else {
                    format!("{lo} to {hi} is expected")
                };
                self.report(Diagnostic::error(
                    "E1031",
                    arg.value.span,
                    format!("{n} is out of range here"),
                    bounds,
                ));
                Ok(None)
            }
        }
    }

    fn usage(&mut self, a: &ast::Attribute, example: &str) {
        self.report(
            Diagnostic::error(
                "E1031",
                a.span,
                format!("@{} does not take these values", a.name.name),
                "written here",
            )
            .with_help(format!("write `{example}`")),
        );
    }

    fn bad_key(&mut self, a: &ast::Attribute, arg: &ast::Arg, keys: &str) {
        self.report(
            Diagnostic::error(
                "E1031",
                arg.span,
                format!("@{} does not take this", a.name.name),
                "unknown key",
            )
            .with_help(format!("it takes {keys}, each written `key = value`")),
        );
    }
}

fn key(arg: &ast::Arg) -> &str {
    arg.key.as_ref().map_or("", |k| k.name.as_str())
}

fn word(arg: &ast::Arg) -> Option<&str> {
    match &arg.value.kind {
        ExprKind::Name(name) => Some(name),
        _ => None,
    }
}
