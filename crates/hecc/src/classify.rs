//! Predictions of a classifier held against labels: accuracy and a confusion matrix.

use hecc_runtime::Unpacked;
use serde_json::{Value, json};

use crate::output;

/// Predictions beside labels.
#[derive(Debug, PartialEq)]
pub(crate) struct Classification {
    /// The result that was read: its largest element is the prediction.
    result: String,
    /// By label, then by prediction: how many instances.
    confusion: Vec<Vec<usize>>,
}

/// Which of the results holds the scores, and how many classes they have; results by name and shape, without
/// an axis for instances.
///
/// # Errors
/// A sentence that says why the labels do not go with them.
pub(crate) fn scores<'a>(
    results: impl Iterator<Item = (&'a str, &'a [usize])>,
    instances: Option<usize>,
    labels: &[usize],
) -> Result<(usize, usize), String> {
    let vector = |(_, (_, shape)): &(usize, (&str, &[usize]))| shape.len() == 1 && shape[0] > 1;
    let mut fitting = results.enumerate().filter(vector);
    let (Some((at, (name, shape))), None) = (fitting.next(), fitting.next()) else {
        return Err(
            "--labels takes a circuit with one result that is a vector of scores, one a class"
                .to_owned(),
        );
    };
    let count = instances.unwrap_or(1);
    if labels.len() != count {
        return Err(format!(
            "--labels: {} labels for {count} instances: give as many, or a slice as in --labels FILE[0..{count}]",
            labels.len()
        ));
    }
    if let Some(label) = labels.iter().find(|l| **l >= shape[0]) {
        return Err(format!(
            "--labels: there is no class {label}: `{name}` has {} scores",
            shape[0]
        ));
    }
    Ok((at, shape[0]))
}

/// Holds the one result that is a vector against the labels of the instances.
///
/// # Errors
/// A sentence that says what does not fit.
pub(crate) fn classify(
    results: &[Unpacked],
    instances: Option<usize>,
    labels: &[usize],
) -> Result<Classification, String> {
    let axes = usize::from(instances.is_some());
    let shapes = results
        .iter()
        .map(|r| (r.name.as_str(), r.value.shape.get(axes..).unwrap_or(&[])));
    let (at, classes) = scores(shapes, instances, labels)?;
    let result = &results[at];
    let mut confusion = vec![vec![0; classes]; classes];
    for (row, &label) in result.value.data.chunks(classes).zip(labels) {
        // The first of equals, as numpy's argmax.
        let best = (1..classes).fold(0, |best, i| if row[i] > row[best] { i } else { best });
        confusion[label][best] += 1;
    }
    Ok(Classification {
        result: result.name.clone(),
        confusion,
    })
}

impl Classification {
    fn correct(&self) -> usize {
        (0..self.confusion.len())
            .map(|c| self.confusion[c][c])
            .sum()
    }

    fn count(&self) -> usize {
        self.confusion.iter().flatten().sum()
    }

    fn accuracy(&self) -> f64 {
        self.correct() as f64 / self.count().max(1) as f64
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "result": self.result,
            "instances": self.count(),
            "correct": self.correct(),
            "accuracy": self.accuracy(),
            "confusion": self.confusion,
        })
    }

    /// One line.
    pub(crate) fn summary(&self) -> String {
        format!(
            "{:.2} %: {} of {} right",
            100.0 * self.accuracy(),
            self.correct(),
            self.count()
        )
    }

    /// The confusion matrix, a row for each label.
    pub(crate) fn table(&self) -> String {
        let classes = self.confusion.len();
        let header: Vec<String> = std::iter::once("label \\ predicted".to_owned())
            .chain((0..classes).map(|c| c.to_string()))
            .collect();
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let rows = self
            .confusion
            .iter()
            .enumerate()
            .map(|(label, row)| {
                std::iter::once(label.to_string())
                    .chain(row.iter().map(ToString::to_string))
                    .collect()
            })
            .collect();
        output::table(&header, rows, &(0..=classes).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hecc_runtime::Tensor64;

    fn result(shape: &[usize], data: &[f64]) -> Unpacked {
        Unpacked {
            name: "scores".to_owned(),
            value: Tensor64 {
                shape: shape.to_vec(),
                data: data.to_vec(),
            },
        }
    }

    #[test]
    fn counts_what_is_right() {
        let scores = [result(&[3, 2], &[1.0, 2.0, 3.0, 3.0, -1.0, -2.0])];
        let found = classify(&scores, Some(3), &[1, 0, 1]).unwrap();
        assert_eq!(found.confusion, [[1, 0], [1, 1]]);
        assert_eq!(found.summary(), "66.67 %: 2 of 3 right");
        assert_eq!(found.json()["correct"], 2);
        assert_eq!(found.table().lines().count(), 3);
        let one = classify(&[result(&[2], &[0.0, 1.0])], None, &[1]).unwrap();
        assert_eq!(one.correct(), 1);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let scores = || result(&[2, 2], &[0.0; 4]);
        let why = |results: &[Unpacked], labels: &[usize]| {
            classify(results, Some(2), labels).unwrap_err()
        };
        assert!(why(&[scores()], &[1]).contains("1 labels for 2 instances"));
        assert!(why(&[scores()], &[1, 2]).contains("no class 2"));
        assert!(why(&[scores(), scores()], &[1, 1]).contains("one result"));
        assert!(why(&[result(&[2], &[0.0; 2])], &[1, 1]).contains("one result"));
    }
}
