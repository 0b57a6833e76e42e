//! The attributes of a node.

use super::super::ImportError;
use super::super::names::shown;
use super::super::proto::{Attribute, Node};
use super::{Result, unsupported};

/// The attributes of a node, each to be asked for.
pub(super) struct Attributes<'a> {
    node: &'a Node,
}

impl<'a> Attributes<'a> {
    /// Refuses attributes other than these.
    pub(super) fn of(node: &'a Node, known: &[&str]) -> Result<Attributes<'a>> {
        for a in &node.attribute {
            if !known.contains(&a.name.as_str()) {
                return Err(unsupported(
                    node,
                    format!("its attribute `{}` has no counterpart", shown(&a.name)),
                    "export the model without it, for a version of the operators of 13 or more",
                ));
            }
        }
        Ok(Attributes { node })
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Attribute> {
        self.node.attribute.iter().find(|a| a.name == name)
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.get(name).map_or(default, |a| a.i)
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f64 {
        f64::from(self.get(name).map_or(default, |a| a.f))
    }

    pub(super) fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.get(name).map(|a| a.ints.as_slice())
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>> {
        self.get(name)
            .map(|a| std::str::from_utf8(&a.s))
            .transpose()
            .map_err(|_| ImportError::Malformed(format!("attribute `{name}` is no text")))
    }

    /// Refuses a value other than the one that has a counterpart.
    pub(super) fn must_be(&self, name: &str, value: i64, help: &str) -> Result<()> {
        match self.int(name, value) {
            v if v == value => Ok(()),
            v => Err(unsupported(
                self.node,
                format!("its attribute `{name}` is {v}, and only {value} has a counterpart"),
                help,
            )),
        }
    }
}
