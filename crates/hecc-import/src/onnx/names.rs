//! From names of a model to names of a program.

use std::collections::HashSet;

/// Longest name that is made.
const LONGEST: usize = 48;

/// Hands out names, each once.
#[derive(Default)]
pub(super) struct Names {
    /// In lower case: constants are in capitals, and no two names differ in case alone.
    taken: HashSet<String>,
}

impl Names {
    /// A name of a value: small letters.
    pub(super) fn value(&mut self, from: &str) -> String {
        self.unused(from)
    }

    /// A name of a constant: capitals.
    pub(super) fn constant(&mut self, from: &str) -> String {
        self.unused(from).to_ascii_uppercase()
    }

    fn unused(&mut self, from: &str) -> String {
        let base = word(from);
        let mut name = base.clone();
        let mut count = 1;
        while hecc_lang::has_meaning(&name) || !self.taken.insert(name.clone()) {
            count += 1;
            name = format!("{base}_{count}");
        }
        name
    }
}

/// Small letters, digits and single underscores, not starting with a digit.
pub(super) fn word(from: &str) -> String {
    // What PyTorch adds to the name of a node to name its result.
    let from = from.strip_suffix("_output_0").unwrap_or(from);
    let mut out = String::new();
    for c in from.chars() {
        if out.len() == LONGEST {
            break;
        }
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
    }
    let out = out.trim_end_matches('_');
    match out.chars().next() {
        None => "value".to_owned(),
        Some(c) if c.is_ascii_digit() => format!("v{out}"),
        Some(_) => out.to_owned(),
    }
}

/// A text of a model within a comment or a message: on one line, and not long.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let mut out: String = text
        .chars()
        .take(MOST)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_that_mean_nothing_else() {
        assert_eq!(word("/conv1/Conv_output_0"), "conv1_conv");
        assert_eq!(word("fc1.weight"), "fc1_weight");
        assert_eq!(word("23"), "v23");
        assert_eq!(word("ä / ö"), "value");
        let mut names = Names::default();
        assert_eq!(names.value("x"), "x");
        assert_eq!(names.constant("X"), "X_2");
        assert_eq!(names.value("secret"), "secret_2");
        assert_eq!(names.value("sum"), "sum_2");
        assert_eq!(names.value("sigmoid"), "sigmoid_2");
    }
}
