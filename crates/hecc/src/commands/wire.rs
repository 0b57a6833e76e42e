//! Payloads of the files that carry ciphertexts; docs/file-format.md is their reference.

use hecc_ckks::{Ciphertext, Context, SeededCiphertext};
use hecc_runtime::EncryptedInput;

/// Which instances a batch holds, when the values have an axis for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// How many, at least 1.
    pub(crate) count: usize,
    /// How many are in the batches before.
    pub(crate) first: usize,
    /// How many all batches have.
    pub(crate) total: usize,
}

/// Holds the shares of a file's batches against each other.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    seen: usize,
    total: Option<Option<usize>>,
}

impl Shares {
    /// Takes the next batch's share, of at most `most` instances.
    ///
    /// # Errors
    /// When it is not the next one: a sentence without the file's name.
    pub(crate) fn take(&mut self, share: Option<Share>, most: usize) -> Result<(), String> {
        let total = share.map(|s| s.total);
        let fits = match share {
            None => self.total.is_none(),
            Some(s) => {
                s.first == self.seen
                    && (1..=most).contains(&s.count)
                    && s.count <= s.total.saturating_sub(s.first)
                    && self.total.is_none_or(|t| t == total)
            }
        };
        if !fits {
            return Err(
                "its batches are not those that were written together, in their order".to_owned(),
            );
        }
        self.seen += share.map_or(0, |s| s.count);
        self.total = Some(total);
        Ok(())
    }

    /// After the last batch: how many instances there were.
    ///
    /// # Errors
    /// When some are missing.
    pub(crate) fn end(&self) -> Result<Option<usize>, String> {
        match self.total.flatten() {
            Some(total) if total != self.seen => Err(format!(
                "it holds {} of {total} instances: batches are missing",
                self.seen
            )),
            total => Ok(total),
        }
    }
}

/// A batch of encrypted inputs.
pub(crate) struct Inputs {
    pub(crate) share: Option<Share>,
    pub(crate) ciphertexts: Vec<EncryptedInput>,
}

/// A batch of encrypted outputs, and those that depend on nothing secret.
pub(crate) struct Outputs {
    pub(crate) share: Option<Share>,
    pub(crate) ciphertexts: Vec<Ciphertext>,
    /// By result of the public program, then by instance.
    pub(crate) public: Vec<Vec<Vec<f64>>>,
}

const FULL: u8 = 0;
const SEEDED: u8 = 1;

impl Inputs {
    pub(crate) fn to_bytes(&self, context: &Context) -> Result<Vec<u8>, hecc_ckks::Error> {
        let mut out = Vec::new();
        put_share(&mut out, self.share);
        put_count(&mut out, self.ciphertexts.len());
        for c in &self.ciphertexts {
            let (kind, bytes) = match c {
                EncryptedInput::Full(c) => (FULL, c.to_bytes(context)?),
                EncryptedInput::Seeded(c) => (SEEDED, c.to_bytes(context)?),
            };
            out.push(kind);
            put_bytes(&mut out, &bytes);
        }
        Ok(out)
    }

    pub(crate) fn from_bytes(context: &Context, bytes: &[u8]) -> Result<Inputs, String> {
        let mut reader = Reader(bytes);
        let share = reader.share()?;
        let count = reader.count()?;
        let mut ciphertexts = Vec::new();
        for _ in 0..count {
            let kind = reader.byte()?;
            let bytes = reader.bytes()?;
            ciphertexts.push(match kind {
                FULL => EncryptedInput::Full(
                    Ciphertext::from_bytes(context, bytes).map_err(|e| e.to_string())?,
                ),
                SEEDED => EncryptedInput::Seeded(
                    SeededCiphertext::from_bytes(context, bytes).map_err(|e| e.to_string())?,
                ),
                other => return Err(format!("a ciphertext of kind {other}")),
            });
        }
        reader.end()?;
        Ok(Inputs { share, ciphertexts })
    }
}

impl Outputs {
    pub(crate) fn to_bytes(&self, context: &Context) -> Result<Vec<u8>, hecc_ckks::Error> {
        let mut out = Vec::new();
        put_share(&mut out, self.share);
        put_count(&mut out, self.ciphertexts.len());
        for c in &self.ciphertexts {
            put_bytes(&mut out, &c.to_bytes(context)?);
        }
        put_count(&mut out, self.public.len());
        for result in &self.public {
            put_count(&mut out, result.len());
            for instance in result {
                put_count(&mut out, instance.len());
                for value in instance {
                    out.extend_from_slice(&value.to_bits().to_le_bytes());
                }
            }
        }
        Ok(out)
    }

    pub(crate) fn from_bytes(context: &Context, bytes: &[u8]) -> Result<Outputs, String> {
        let mut reader = Reader(bytes);
        let share = reader.share()?;
        let count = reader.count()?;
        let mut ciphertexts = Vec::new();
        for _ in 0..count {
            ciphertexts
                .push(Ciphertext::from_bytes(context, reader.bytes()?).map_err(|e| e.to_string())?);
        }
        let mut public = Vec::new();
        for _ in 0..reader.count()? {
            let mut result = Vec::new();
            for _ in 0..reader.count()? {
                let mut values = Vec::new();
                for _ in 0..reader.count()? {
                    values.push(f64::from_bits(u64::from_le_bytes(reader.array()?)));
                }
                result.push(values);
            }
            public.push(result);
        }
        reader.end()?;
        Ok(Outputs {
            share,
            ciphertexts,
            public,
        })
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u64).to_le_bytes());
}

fn put_share(out: &mut Vec<u8>, share: Option<Share>) {
    let numbers = share.map_or([0; 3], |s| [s.count, s.first, s.total]);
    numbers.into_iter().for_each(|n| put_count(out, n));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Takes from the front. Nothing is reserved by a count that was read: every item is there or is missed.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| format!("{count} bytes are expected and {} are left", self.0.len()))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let head = self.take(N)?;
        Ok(std::array::from_fn(|i| head[i]))
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    fn count(&mut self) -> Result<usize, String> {
        let count = u64::from_le_bytes(self.array()?);
        usize::try_from(count)
            .ok()
            .filter(|n| *n <= isize::MAX as usize)
            .ok_or_else(|| format!("a count of {count}"))
    }

    fn share(&mut self) -> Result<Option<Share>, String> {
        match [self.count()?, self.count()?, self.count()?] {
            [0, 0, 0] => Ok(None),
            [count, first, total] => Ok(Some(Share {
                count,
                first,
                total,
            })),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], String> {
        let count = self.count()?;
        self.take(count)
    }

    fn end(&self) -> Result<(), String> {
        match self.0.len() {
            0 => Ok(()),
            n => Err(format!("{n} bytes are left over")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_in_order_and_all() {
        let share = |count, first, total| {
            Some(Share {
                count,
                first,
                total,
            })
        };
        let take = |all: &[Option<Share>]| {
            let mut shares = Shares::default();
            for s in all {
                shares.take(*s, 4)?;
            }
            shares.end()
        };
        assert_eq!(take(&[None]), Ok(None));
        assert_eq!(take(&[share(4, 0, 6), share(2, 4, 6)]), Ok(Some(6)));
        for bad in [
            vec![None, None],
            vec![share(4, 0, 6)],
            vec![share(2, 4, 6), share(4, 0, 6)],
            vec![share(4, 0, 8), share(4, 0, 8)],
            vec![share(4, 0, 6), share(2, 4, 7)],
            vec![share(5, 0, 5)],
            vec![share(0, 0, 3)],
            vec![share(4, 0, 3)],
            vec![share(4, 0, 6), None],
        ] {
            assert!(take(&bad).is_err(), "{bad:?}");
        }
    }
}
