//! "Did you mean": the nearest of some names.

/// The candidate with the least edit distance to `word` (swaps of neighbours count one), the first of
/// equals; none when even that one differs in more than a third of its letters.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let distance = distance(word, candidate);
        if best.is_none_or(|(d, _)| distance < d) {
            best = Some((distance, candidate));
        }
    }
    let (distance, candidate) = best?;
    let length = word.chars().count().max(candidate.chars().count());
    (distance * 3 <= length.max(3)).then_some(candidate)
}

fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_typos_and_nothing_else() {
        let names = ["budget", "batch", "keep", "unroll"];
        assert_eq!(nearest("bugdet", names), Some("budget"));
        assert_eq!(nearest("unrol", names), Some("unroll"));
        assert_eq!(nearest("Keep", names), Some("keep"));
        assert_eq!(nearest("pipeline", names), None);
        assert_eq!(nearest("x", names), None);
    }
}
