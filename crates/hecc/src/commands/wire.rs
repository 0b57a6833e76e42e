//! Payloads of the files that carry ciphertexts; docs/file-format.md is their reference.

use hecc_ckks::{Ciphertext, Context, SeededCiphertext};
use hecc_runtime::EncryptedInput;

/// Encrypted inputs.
pub(crate) struct Inputs {
    /// How many instances, when the values have an axis for them.
    pub(crate) instances: Option<usize>,
    pub(crate) ciphertexts: Vec<EncryptedInput>,
}

/// Encrypted outputs, and those that depend on nothing secret.
pub(crate) struct Outputs {
    pub(crate) instances: Option<usize>,
    pub(crate) ciphertexts: Vec<Ciphertext>,
    /// By result of the public program, then by instance.
    pub(crate) public: Vec<Vec<Vec<f64>>>,
}

const FULL: u8 = 0;
const SEEDED: u8 = 1;

impl Inputs {
    pub(crate) fn to_bytes(&self, context: &Context) -> Result<Vec<u8>, hecc_ckks::Error> {
        let mut out = Vec::new();
        put_count(&mut out, self.instances.unwrap_or(0));
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
        let instances = reader.count()?;
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
        Ok(Inputs {
            instances: (instances > 0).then_some(instances),
            ciphertexts,
        })
    }
}

impl Outputs {
    pub(crate) fn to_bytes(&self, context: &Context) -> Result<Vec<u8>, hecc_ckks::Error> {
        let mut out = Vec::new();
        put_count(&mut out, self.instances.unwrap_or(0));
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
        let instances = reader.count()?;
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
            instances: (instances > 0).then_some(instances),
            ciphertexts,
            public,
        })
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u64).to_le_bytes());
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
