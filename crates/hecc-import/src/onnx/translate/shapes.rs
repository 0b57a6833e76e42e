//! Operators that move elements or sum them over axes.

use std::collections::HashSet;

use super::super::ImportError;
use super::super::names::shown;
use super::super::proto::Node;
use super::super::tensor::Array;
use super::attributes::Attributes;
use super::{
    INSTANCES, Made, Result, Translator, Value, list, node_name, product, reshaped, unsupported,
};

impl<'a> Translator<'a> {
    pub(super) fn flatten(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(node, &["axis"])?;
        let x = self.operand(node, 0)?;
        let rank = x.rank() as i64;
        let axis = match attributes.int("axis", 1) {
            a if a < 0 => a + rank,
            a => a,
        };
        if !(0..=rank).contains(&axis) {
            return Err(ImportError::Malformed(format!(
                "{} has axis {axis} of {rank}",
                node_name(node)
            )));
        }
        let axis = axis as usize;
        if x.batched {
            if axis != 1 {
                return Err(unsupported(
                    node,
                    format!("its axis is {axis}: it would join instances with other axes"),
                    "flatten from axis 1 on",
                ));
            }
            let size = product(&x.shape);
            return self.reshaped_to(node, x, vec![size], true);
        }
        let shape = vec![product(&x.shape[..axis]), product(&x.shape[axis..])];
        self.reshaped_to(node, x, shape, false)
    }

    /// Binds the same elements in another shape, or only another name if the shape is the same.
    pub(super) fn reshaped_to(
        &mut self,
        node: &'a Node,
        x: Value,
        shape: Vec<usize>,
        batched: bool,
    ) -> Result<()> {
        if product(&shape) != product(&x.shape) {
            return Err(ImportError::Malformed(format!(
                "{} turns shape {:?} into {shape:?}",
                node_name(node),
                x.shape
            )));
        }
        if let Some((array, called)) = &x.known {
            // An array of the model is stored in the shape that it is used in.
            let mut array = array.as_ref().clone();
            array.shape = shape;
            let called = called.clone();
            let output = node.output.first().map_or("", String::as_str);
            let called = if array.shape == x.shape {
                called
            } else {
                output.to_owned()
            };
            self.hold(output, &called, array);
            return Ok(());
        }
        if shape == x.shape {
            return self.alias(node, Value { batched, ..x });
        }
        let text = reshaped(&x.text, &shape);
        self.bind(
            node,
            Made {
                text,
                shape,
                batched,
                secret: x.secret,
            },
        )
    }

    pub(super) fn reshape(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(node, &["allowzero", "shape"])?;
        attributes.must_be("allowzero", 0, "export it with allowzero=0")?;
        let x = self.operand(node, 0)?;
        let target = self
            .integers(node, 1, "shape")?
            .ok_or_else(|| ImportError::Malformed(format!("{} has no shape", node_name(node))))?;
        let bad = || {
            unsupported(
                node,
                format!(
                    "shape {:?} of each instance cannot become {target:?}",
                    x.shape
                ),
                INSTANCES,
            )
        };
        // Extents of the operand in the model, the axis of instances as 0.
        let mut old: Vec<usize> = x.shape.clone();
        if x.batched {
            old.insert(0, 0);
        }
        let mut rest: Vec<Option<usize>> = Vec::new();
        for (axis, &d) in target.iter().enumerate() {
            rest.push(match d {
                -1 => None,
                0 => Some(*old.get(axis).ok_or_else(bad)?),
                d => Some(usize::try_from(d).map_err(|_| bad())?),
            });
        }
        if rest.iter().filter(|d| d.is_none()).count() > 1 {
            return Err(bad());
        }
        let size = product(&x.shape);
        // With an axis of instances, the first extent stands for it: copied, open or 1.
        let batched = x.batched
            && match rest.first() {
                Some(Some(0 | 1)) => true,
                Some(None) => {
                    let others: Option<Vec<usize>> = rest[1..].iter().copied().collect();
                    others.is_some_and(|o| !o.contains(&0) && product(&o) == size)
                }
                _ => false,
            };
        if x.batched && !batched {
            return Err(bad());
        }
        let own = if batched { &rest[1..] } else { &rest[..] };
        let given = own
            .iter()
            .flatten()
            .try_fold(1usize, |n, &d| n.checked_mul(d));
        let given = given.filter(|&n| n > 0).ok_or_else(bad)?;
        let shape: Vec<usize> = own
            .iter()
            .map(|d| match d {
                Some(d) => *d,
                None => size / given,
            })
            .collect();
        if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(size) {
            return Err(bad());
        }
        self.reshaped_to(node, x, shape, batched)
    }

    pub(super) fn squeeze(&mut self, node: &'a Node) -> Result<()> {
        Attributes::of(node, &["axes"])?;
        let x = self.operand(node, 0)?;
        let axes = self.integers(node, 1, "axes")?;
        let adds = node.op_type == "Unsqueeze";
        let rank = x.rank()
            + if adds {
                axes.as_ref().map_or(0, Vec::len)
            } else {
                0
            };
        let mut places: Vec<usize> = match &axes {
            Some(axes) => axes
                .iter()
                .map(|&a| axis(node, a, rank))
                .collect::<Result<_>>()?,
            None if adds => {
                return Err(ImportError::Malformed(format!(
                    "{} has no axes",
                    node_name(node)
                )));
            }
            None => (usize::from(x.batched)..x.rank())
                .filter(|&i| x.shape[i - usize::from(x.batched)] == 1)
                .collect(),
        };
        places.sort_unstable();
        places.dedup();
        if x.batched && places.first() == Some(&0) {
            return Err(unsupported(
                node,
                "it moves the axis of instances",
                INSTANCES,
            ));
        }
        let shift = usize::from(x.batched);
        let mut shape = x.shape.clone();
        if adds {
            for p in places {
                if p - shift > shape.len() {
                    return Err(ImportError::Malformed(format!(
                        "{} has axes out of place",
                        node_name(node)
                    )));
                }
                shape.insert(p - shift, 1);
            }
        } else {
            for p in places.into_iter().rev() {
                if shape.remove(p - shift) != 1 {
                    return Err(ImportError::Malformed(format!(
                        "{} removes an axis of shape {:?} that is not 1",
                        node_name(node),
                        x.shape
                    )));
                }
            }
        }
        let batched = x.batched;
        self.reshaped_to(node, x, shape, batched)
    }

    pub(super) fn transpose(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(node, &["perm"])?;
        let x = self.tensor(node, 0)?;
        let rank = x.rank();
        let perm: Vec<usize> = match attributes.ints("perm") {
            None => (0..rank).rev().collect(),
            Some(perm) => perm
                .iter()
                .map(|&a| axis(node, a, rank))
                .collect::<Result<_>>()?,
        };
        let distinct: HashSet<usize> = perm.iter().copied().collect();
        if perm.len() != rank || distinct.len() != rank {
            return Err(ImportError::Malformed(format!(
                "{} has perm {perm:?} for {rank} axes",
                node_name(node)
            )));
        }
        let own: Vec<usize> = if x.batched {
            if perm[0] != 0 {
                return Err(unsupported(
                    node,
                    "it moves the axis of instances",
                    INSTANCES,
                ));
            }
            perm[1..].iter().map(|a| a - 1).collect()
        } else {
            perm
        };
        if own.iter().enumerate().all(|(i, a)| i == *a) {
            return self.alias(node, x);
        }
        let shape: Vec<usize> = own.iter().map(|&a| x.shape[a]).collect();
        let text = match own.as_slice() {
            [1, 0] => format!("{}'", x.text),
            _ => format!("transpose({}, {})", x.text, list(&own)),
        };
        self.bind(
            node,
            Made {
                text,
                shape,
                batched: x.batched,
                secret: x.secret,
            },
        )
    }

    pub(super) fn concat(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(node, &["axis"])?;
        let mut parts = Vec::with_capacity(node.input.len());
        for at in 0..node.input.len() {
            parts.push(self.tensor(node, at)?);
        }
        let Some(first) = parts.first().cloned() else {
            return Err(ImportError::Malformed(format!(
                "{} has no operands",
                node_name(node)
            )));
        };
        let at = axis(node, attributes.int("axis", 0), first.rank())?;
        let mixed = parts.iter().any(|p| p.batched != first.batched);
        if mixed || (first.batched && at == 0) {
            return Err(unsupported(
                node,
                "it joins instances, or joins them with constants",
                INSTANCES,
            ));
        }
        let at = at - usize::from(first.batched);
        let mut shape = first.shape.clone();
        for part in &parts[1..] {
            let same = part.shape.len() == shape.len()
                && (0..shape.len()).all(|i| i == at || part.shape[i] == shape[i]);
            if !same {
                return Err(ImportError::Malformed(format!(
                    "{} joins shapes {:?} and {:?}",
                    node_name(node),
                    first.shape,
                    part.shape
                )));
            }
            shape[at] = shape[at].saturating_add(part.shape[at]);
        }
        let names: Vec<&str> = parts.iter().map(|p| p.text.as_str()).collect();
        let along = match at {
            0 => String::new(),
            a => format!(", axis = {a}"),
        };
        self.bind(
            node,
            Made {
                text: format!("concat({}{along})", names.join(", ")),
                shape,
                batched: first.batched,
                secret: parts.iter().any(|p| p.secret),
            },
        )
    }

    pub(super) fn pad(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(node, &["mode", "pads", "value"])?;
        if let Some(mode) = attributes.text("mode")?.filter(|m| *m != "constant") {
            return Err(unsupported(
                node,
                format!("its mode is {}", shown(mode)),
                "pad with zeros",
            ));
        }
        let x = self.tensor(node, 0)?;
        let filling = match self.optional(node, 2)? {
            None => Some(attributes.float("value", 0.0)),
            Some(value) => value.known().and_then(Array::scalar),
        };
        if filling != Some(0.0) {
            return Err(unsupported(
                node,
                "it does not pad with zeros",
                "pad with zeros",
            ));
        }
        if self.optional(node, 3)?.is_some() {
            return Err(unsupported(node, "it names axes", "give pads for all axes"));
        }
        let pads = self.integers(node, 1, "pads")?.unwrap_or_default();
        let rank = x.rank();
        if pads.len() != 2 * rank {
            return Err(ImportError::Malformed(format!(
                "{} has {} pads for {rank} axes",
                node_name(node),
                pads.len()
            )));
        }
        let mut pairs = Vec::with_capacity(rank);
        for axis in 0..rank {
            let most = i64::from(u32::MAX);
            match (pads[axis], pads[axis + rank]) {
                (lo, hi) if (0..most).contains(&lo) && (0..most).contains(&hi) => {
                    pairs.push([lo as usize, hi as usize]);
                }
                (lo, hi) => {
                    return Err(unsupported(
                        node,
                        format!("its pads are {lo} and {hi}"),
                        "crop with a slice by hand: x[a..b]",
                    ));
                }
            }
        }
        if x.batched && pairs.remove(0) != [0, 0] {
            return Err(unsupported(node, "it adds instances", INSTANCES));
        }
        if pairs.iter().all(|p| *p == [0, 0]) {
            return self.alias(node, x);
        }
        let shape = x
            .shape
            .iter()
            .zip(&pairs)
            .map(|(d, [lo, hi])| d.saturating_add(*lo).saturating_add(*hi))
            .collect();
        let widths: Vec<String> = pairs.iter().map(|[l, h]| format!("[{l}, {h}]")).collect();
        self.bind(
            node,
            Made {
                text: format!("pad({}, [{}])", x.text, widths.join(", ")),
                shape,
                batched: x.batched,
                secret: x.secret,
            },
        )
    }

    pub(super) fn reduce(&mut self, node: &'a Node) -> Result<()> {
        let attributes = Attributes::of(node, &["axes", "keepdims", "noop_with_empty_axes"])?;
        let function = if node.op_type == "ReduceSum" {
            "sum"
        } else {
            "mean"
        };
        let x = self.tensor(node, 0)?;
        let keep = attributes.int("keepdims", 1) != 0;
        let rank = x.rank();
        let axes = self.integers(node, 1, "axes")?.unwrap_or_default();
        if axes.is_empty() && attributes.int("noop_with_empty_axes", 0) != 0 {
            return self.alias(node, x);
        }
        let mut places: Vec<usize> = if axes.is_empty() {
            (0..rank).collect()
        } else {
            axes.iter()
                .map(|&a| axis(node, a, rank))
                .collect::<Result<_>>()?
        };
        places.sort_unstable();
        places.dedup();
        if x.batched && places.first() == Some(&0) {
            return Err(unsupported(node, "it sums over instances", INSTANCES));
        }
        let shift = usize::from(x.batched);
        let mut text = x.text.clone();
        let mut left = x.shape.clone();
        let mut kept = x.shape.clone();
        for p in places.into_iter().rev() {
            text = format!("{function}({text}, {})", p - shift);
            left.remove(p - shift);
            kept[p - shift] = 1;
        }
        let shape = if keep {
            text = reshaped(&text, &kept);
            kept
        } else {
            left
        };
        self.bind(
            node,
            Made {
                text,
                shape,
                batched: x.batched,
                secret: x.secret,
            },
        )
    }
}

/// An axis, counted from the end if negative.
fn axis(node: &Node, axis: i64, rank: usize) -> Result<usize> {
    let from_start = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_start)
        .ok()
        .filter(|a| *a < rank)
        .ok_or_else(|| {
            ImportError::Malformed(format!("{} has axis {axis} of {rank}", node_name(node)))
        })
}
