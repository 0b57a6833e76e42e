//! What the operations of the engine cost in time, as a function of the ring, the limbs and the
//! special primes.
//!
//! A [`CostModel`] holds, for each ring degree, a handful of coefficients in microseconds. Simple
//! operations are lines in the number of limbs. A key switch is counted out in its parts (transforms,
//! basis conversion, products with the key), each with its own coefficient, so that any number of
//! limbs, digits and special primes is covered. Rings that were not measured are scaled from the
//! nearest one that was, by N·log N.
//!
//! The counts are those of hybrid key switching: Han, Ki, eprint 2019/688, and Bossuat, Mouchet,
//! Troncoso-Pastoriza, Hubaux, eprint 2020/1203. A model knows no clock: whoever measures fills it in.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{LogN, MAX_LOG_N, MIN_LOG_N};

/// The form of the models that this version reads.
const FORMAT: u32 = 2;

/// The model that ships: measured by `hecc calibrate`.
const SHIPPED: &str = include_str!("cost_model.json");

/// Primes of up to so many bits take the engine's fast kernels.
pub const FAST_BITS: u32 = 50;

/// Times of one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostModel {
    /// The version of this form.
    pub format: u32,
    /// The processor, for people.
    pub machine: String,
    /// Threads that `spread` and `crowd` of the rings were measured with.
    pub threads: u32,
    /// Microseconds for each MiB of memory that is touched for the first time.
    pub fresh: f64,
    /// By ring degree, ascending.
    pub rings: Vec<RingCost>,
}

/// Microseconds that grow with the number of limbs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Of every call.
    pub base: f64,
    /// For each limb.
    pub limb: f64,
}

impl Line {
    /// Microseconds with so many limbs.
    pub fn at(self, limbs: usize) -> f64 {
        self.base + self.limb * limbs as f64
    }

    fn scaled(self, by: f64) -> Line {
        Line {
            base: self.base * by,
            limb: self.limb * by,
        }
    }
}

macro_rules! ring_cost {
    (lines { $($(#[$line_doc:meta])* $line:ident,)* } units { $($(#[$unit_doc:meta])* $unit:ident,)* }) => {
        /// Times in one ring, in microseconds on one thread unless it says otherwise.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct RingCost {
            /// log2 of the ring degree.
            pub log_n: LogN,
            $($(#[$line_doc])* pub $line: Line,)*
            $($(#[$unit_doc])* pub $unit: f64,)*
            /// The part of a large operation that is spread over threads when it has them all, 0 to 1.
            pub spread: f64,
            /// How much longer an operation takes while all threads are busy, 1 or more.
            pub crowd: f64,
            /// How many times as long an operation takes whose primes have more than
            /// [`FAST_BITS`] bits, 1 or more.
            pub wide: f64,
        }

        impl RingCost {
            /// Every time, by name, for comparisons: `base` and `limb` of each line, then the units.
            pub fn entries(&self) -> Vec<(String, f64)> {
                vec![
                    $(
                        (concat!(stringify!($line), ".base").to_owned(), self.$line.base),
                        (concat!(stringify!($line), ".limb").to_owned(), self.$line.limb),
                    )*
                    $((stringify!($unit).to_owned(), self.$unit),)*
                ]
            }

            /// The lines, by name.
            pub fn lines(&self) -> Vec<(&'static str, Line)> {
                vec![$((stringify!($line), self.$line),)*]
            }

            fn scaled_to(&self, log_n: LogN, by: f64) -> RingCost {
                RingCost {
                    log_n,
                    $($line: self.$line.scaled(by),)*
                    $($unit: self.$unit * by,)*
                    spread: self.spread,
                    crowd: self.crowd,
                    wide: self.wide,
                }
            }
        }
    };
}

ring_cost! {
    lines {
        /// Sum of two ciphertexts of two polynomials.
        add,
        /// A ciphertext times an integer, in place.
        scale,
        /// Product of two ciphertexts, three polynomials.
        mul,
        /// Square of a ciphertext.
        square,
        /// Ciphertext times plaintext.
        mul_plain,
        /// One more product in a sum of products.
        product_term,
        /// One more product with a plaintext in a sum of such products.
        plain_term,
        /// Reading one operand of linear combinations.
        combination_operand,
        /// One operand times one weight, added up.
        combination_term,
        /// Division of a ciphertext by its last prime.
        rescale,
        /// Encoding of a full vector; `base` is the Fourier transform.
        encode,
        /// Encryption with the public key.
        encrypt,
        /// Decryption.
        decrypt,
        /// Decoding of a full vector.
        decode,
    }
    units {
        /// A key switch, whatever its size.
        switch_base,
        /// One transform of one limb.
        transform,
        /// One limb of a digit brought to one other prime.
        convert,
        /// One limb of one digit times both parts of a key.
        key_product,
        /// One limb of a rotated term weighted and added, both parts.
        weighted,
        /// The errors of one digit of a new key.
        key_digit,
        /// One limb of one digit of a new key, the memory for it included.
        key_limb,
    }
}

/// The sizes that a key switch depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Limbs of the ciphertext.
    pub limbs: usize,
    /// Special primes.
    pub special: usize,
    /// Limbs of a digit.
    pub digit_limbs: usize,
}

impl Switch {
    /// Digits of the ciphertext.
    pub fn digits(self) -> usize {
        self.limbs.div_ceil(self.digit_limbs.max(1))
    }

    /// Transforms and conversions of the decomposition, per digit and extended limb.
    fn up(self) -> (f64, f64) {
        let extended = self.limbs + self.special;
        let transforms = self.limbs + self.digits() * extended - self.limbs;
        let converted = self.limbs * extended - self.limbs * self.digit_limbs.min(self.limbs);
        (transforms as f64, converted as f64)
    }

    /// The same for the division by P (and, where `rescale`, the last prime) of two polynomials.
    fn down(self, rescale: bool) -> (f64, f64) {
        let (from, to) = if rescale {
            (self.special + 1, self.limbs - 1)
        } else {
            (self.special, self.limbs)
        };
        (2.0 * (from + to) as f64, 2.0 * (from * to) as f64)
    }

    fn key_limbs(self) -> f64 {
        (self.digits() * (self.limbs + self.special)) as f64
    }

    /// What a new key consists of: digits, and limbs of digits.
    pub fn key_parts(self) -> [f64; 2] {
        [self.digits() as f64, self.key_limbs()]
    }

    /// What a key switch of one decomposition, `keys` keys, `weighted` weighted copies and `downs`
    /// divisions consists of: calls, transforms, conversions, key products, weighted limbs.
    pub fn parts(self, keys: usize, weighted: usize, downs: usize, rescale: bool) -> [f64; 5] {
        let (up, convert_up) = self.up();
        let (down, convert_down) = self.down(rescale);
        let downs = downs as f64;
        [
            1.0,
            up + down * downs,
            convert_up + convert_down * downs,
            self.key_limbs() * keys as f64,
            (weighted * (self.limbs + self.special)) as f64,
        ]
    }
}

impl RingCost {
    /// The time of a key switch that consists of these [`Switch::parts`].
    pub fn switch(&self, parts: [f64; 5]) -> f64 {
        let unit = [
            self.switch_base,
            self.transform,
            self.convert,
            self.key_product,
            self.weighted,
        ];
        parts.iter().zip(unit).map(|(n, t)| n * t).sum()
    }

    /// A rotation, or a relinearization.
    pub fn key_switch(&self, s: Switch) -> f64 {
        self.switch(s.parts(1, 0, 1, false))
    }

    /// Relinearization and rescale in one.
    pub fn relinearize_rescale(&self, s: Switch) -> f64 {
        self.switch(s.parts(1, 0, 1, s.limbs > 1))
    }

    /// So many rotations of one ciphertext, decomposed once.
    pub fn rotations(&self, s: Switch, count: usize) -> f64 {
        self.switch(s.parts(count, 0, count, false))
    }

    /// A weighted sum of so many rotations of one ciphertext, `terms` of which switch keys.
    pub fn rotation_sum(&self, s: Switch, terms: usize, switched: usize) -> f64 {
        self.switch(s.parts(switched, terms, 1, false))
    }

    /// A key for ciphertexts of this size.
    pub fn key(&self, s: Switch) -> f64 {
        let [digits, limbs] = s.key_parts();
        self.key_digit * digits + self.key_limb * limbs
    }

    /// The secret key and the public key of parameters with so many limbs and special primes: the secret is
    /// drawn and transformed modulo all primes, the public key is like a digit of a key over the chain
    /// and one prime more.
    pub fn own_keys(&self, limbs: usize, special: usize) -> f64 {
        let secret = self.key_digit + self.transform * (limbs + special) as f64;
        secret + self.key_digit + self.key_limb * (limbs + special.min(1)) as f64
    }

    /// Σ of so many products of ciphertexts.
    pub fn product_sum(&self, limbs: usize, terms: usize) -> f64 {
        self.mul.at(limbs) + self.product_term.at(limbs) * terms.saturating_sub(1) as f64
    }

    /// Σ of so many products with plaintexts.
    pub fn plain_sum(&self, limbs: usize, terms: usize) -> f64 {
        self.mul_plain.at(limbs) + self.plain_term.at(limbs) * terms.saturating_sub(1) as f64
    }

    /// So many linear combinations of the same operands.
    pub fn combinations(&self, limbs: usize, operands: usize, outputs: usize) -> f64 {
        self.combination_operand.at(limbs) * operands as f64
            + self.combination_term.at(limbs) * (operands * outputs) as f64
            + self.add.limb * limbs as f64 * outputs as f64
    }

    /// Encoding of a vector of `slots` slots.
    pub fn encode(&self, limbs: usize, slots: usize) -> f64 {
        let part = (slots as f64 / self.log_n.slots() as f64).min(1.0);
        self.encode.base * part + self.encode.limb * limbs as f64
    }

    /// By how much longer an operation takes of whose `all` limbs so many are `wide`.
    pub fn widened(&self, wide: usize, all: usize) -> f64 {
        1.0 + (self.wide - 1.0) * wide as f64 / all.max(1) as f64
    }

    /// How long what takes `alone` on one thread takes when it has `threads` to itself.
    pub fn spread_over(&self, alone: f64, threads: usize) -> f64 {
        alone * (1.0 - self.spread + self.spread / threads.max(1) as f64)
    }
}

/// Why a model is refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum CostModelError {
    /// It is no JSON of this form.
    #[error("it is no cost model: {0}")]
    Form(String),
    /// A later or earlier form.
    #[error(
        "it is of form {found}, and this hecc reads form {FORMAT}: write it again with `hecc calibrate --out FILE`"
    )]
    Format {
        /// What it says.
        found: u32,
    },
    /// The rings are none, not ascending, or outside what the engine has.
    #[error("its rings are to be ascending, at least one, from 2^{} to 2^{}", MIN_LOG_N.0, MAX_LOG_N.0)]
    Rings,
    /// A time that cannot be.
    #[error("{entry} of ring 2^{log_n} is {value}: it is to be {wanted}")]
    Value {
        /// Which ring.
        log_n: u8,
        /// Which time.
        entry: String,
        /// What it says.
        value: f64,
        /// What would do.
        wanted: &'static str,
    },
}

impl CostModel {
    /// The model that ships with hecc.
    pub fn shipped() -> &'static CostModel {
        static MODEL: OnceLock<CostModel> = OnceLock::new();
        MODEL.get_or_init(|| {
            CostModel::from_json(SHIPPED).expect("a test reads the model that ships")
        })
    }

    /// A model from parts, checked.
    ///
    /// # Errors
    /// As [`CostModel::check`].
    pub fn new(
        machine: String,
        threads: u32,
        fresh: f64,
        rings: Vec<RingCost>,
    ) -> Result<CostModel, CostModelError> {
        let model = CostModel {
            format: FORMAT,
            machine,
            threads,
            fresh,
            rings,
        };
        model.check()?;
        Ok(model)
    }

    /// Reads and checks a model.
    ///
    /// # Errors
    /// [`CostModelError`].
    pub fn from_json(text: &str) -> Result<CostModel, CostModelError> {
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|e| CostModelError::Form(e.to_string()))?;
        if let Some(found) = value.get("format").and_then(serde_json::Value::as_u64)
            && found != u64::from(FORMAT)
        {
            return Err(CostModelError::Format {
                found: u32::try_from(found).unwrap_or(u32::MAX),
            });
        }
        let model: CostModel =
            serde_json::from_value(value).map_err(|e| CostModelError::Form(e.to_string()))?;
        model.check()?;
        Ok(model)
    }

    /// The model as text that [`CostModel::from_json`] reads.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Whether every time is one that can be.
    ///
    /// # Errors
    /// [`CostModelError`] for the first that cannot.
    pub fn check(&self) -> Result<(), CostModelError> {
        if self.format != FORMAT {
            return Err(CostModelError::Format { found: self.format });
        }
        let ascending = self.rings.windows(2).all(|w| w[0].log_n < w[1].log_n);
        let known = |r: &RingCost| (MIN_LOG_N..=MAX_LOG_N).contains(&r.log_n);
        if self.rings.is_empty() || !ascending || !self.rings.iter().all(known) {
            return Err(CostModelError::Rings);
        }
        if !(self.fresh.is_finite() && self.fresh >= 0.0) {
            return Err(CostModelError::Value {
                log_n: self.rings[0].log_n.0,
                entry: "fresh".to_owned(),
                value: self.fresh,
                wanted: "a number, 0 or more",
            });
        }
        for ring in &self.rings {
            let refuse = |entry: &str, value, wanted| CostModelError::Value {
                log_n: ring.log_n.0,
                entry: entry.to_owned(),
                value,
                wanted,
            };
            for (entry, value) in ring.entries() {
                if !(value.is_finite() && value >= 0.0) {
                    return Err(refuse(&entry, value, "a number, 0 or more"));
                }
            }
            for (name, line) in ring.lines() {
                if line.at(1) <= 0.0 {
                    return Err(refuse(name, line.at(1), "more than 0 with one limb"));
                }
            }
            if ring.transform <= 0.0 {
                return Err(refuse("transform", ring.transform, "more than 0"));
            }
            if !(0.0..=1.0).contains(&ring.spread) {
                return Err(refuse("spread", ring.spread, "from 0 to 1"));
            }
            if !(1.0..=64.0).contains(&ring.crowd) {
                return Err(refuse("crowd", ring.crowd, "from 1 to 64"));
            }
            if !(1.0..=64.0).contains(&ring.wide) {
                return Err(refuse("wide", ring.wide, "from 1 to 64"));
            }
        }
        Ok(())
    }

    /// The times of a ring; of the nearest one that was measured, times the ratio of N·log N,
    /// where it was not.
    pub fn ring(&self, log_n: LogN) -> RingCost {
        let distance = |r: &&RingCost| r.log_n.0.abs_diff(log_n.0);
        let nearest = self.rings.iter().min_by_key(distance);
        let nearest = nearest.unwrap_or(&CostModel::shipped().rings[0]);
        let size = |l: LogN| l.degree() as f64 * f64::from(l.0);
        nearest.scaled_to(log_n, size(log_n) / size(nearest.log_n))
    }
}

impl Default for CostModel {
    fn default() -> CostModel {
        CostModel::shipped().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_model_is_sound_and_reads_back() {
        let model = CostModel::shipped();
        assert_eq!(CostModel::from_json(&model.to_json()).as_ref(), Ok(model));
        for log_n in MIN_LOG_N.0..MAX_LOG_N.0 {
            let (small, large) = (model.ring(LogN(log_n)), model.ring(LogN(log_n + 1)));
            for (a, b) in [(1, 1), (4, 1), (8, 2)].map(|(limbs, special)| {
                let s = Switch {
                    limbs,
                    special,
                    digit_limbs: special,
                };
                (small.key_switch(s), large.key_switch(s))
            }) {
                assert!(a < b, "2^{log_n}: a key switch takes {a} and then {b}");
            }
        }
    }

    #[test]
    fn counts_are_those_of_the_engine() {
        // Level 3, digits of 2 limbs, 2 special primes: 4 inverse transforms, 2 digits on 6 limbs
        // less their own; then 2·2 inverse and 2·4 forward.
        let s = Switch {
            limbs: 4,
            special: 2,
            digit_limbs: 2,
        };
        let [calls, transforms, conversions, keys, weighted] = s.parts(1, 0, 1, false);
        assert_eq!((calls, keys, weighted), (1.0, 12.0, 0.0));
        assert_eq!(transforms, 4.0 + (12.0 - 4.0) + 12.0);
        // each digit: 2 limbs to 4 primes; down: 2 limbs to 4 primes, twice
        assert_eq!(conversions, 16.0 + 16.0);
    }

    #[test]
    fn hoisting_and_fusing_pay() {
        let ring = CostModel::shipped().ring(LogN(14));
        let s = Switch {
            limbs: 8,
            special: 2,
            digit_limbs: 2,
        };
        let apart = 8.0 * ring.key_switch(s);
        assert!(ring.rotations(s, 8) < apart);
        assert!(ring.rotation_sum(s, 8, 8) < ring.rotations(s, 8));
        assert!(ring.relinearize_rescale(s) < ring.key_switch(s) + ring.rescale.at(8));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refusal = |change: &dyn Fn(&mut CostModel)| {
            let mut model = CostModel::default();
            change(&mut model);
            match CostModel::from_json(&model.to_json()) {
                Ok(_) => panic!("accepted"),
                Err(e) => e.to_string(),
            }
        };
        assert!(refusal(&|m| m.rings.clear()).contains("ascending"));
        assert!(refusal(&|m| m.rings.reverse()).contains("ascending"));
        assert!(refusal(&|m| m.format = 7).contains("hecc calibrate"));
        assert!(refusal(&|m| m.rings[0].add.limb = -1.0).contains("add.limb"));
        assert!(refusal(&|m| m.rings[0].mul = Line::default()).contains("mul"));
        assert!(refusal(&|m| m.rings[0].spread = 2.0).contains("spread"));
        assert!(refusal(&|m| m.rings[0].crowd = 0.5).contains("crowd"));
        assert!(refusal(&|m| m.rings[0].wide = 0.5).contains("wide"));
        assert!(refusal(&|m| m.fresh = -1.0).contains("fresh"));
        assert!(CostModel::from_json("{}").is_err());
    }

    #[test]
    fn rings_that_were_not_measured_are_scaled() {
        let mut model = CostModel::default();
        model.rings.retain(|r| r.log_n == LogN(13));
        let (at, above) = (model.ring(LogN(13)), model.ring(LogN(14)));
        let ratio = 2.0 * 14.0 / 13.0;
        assert!((above.transform / at.transform - ratio).abs() < 1e-12);
        assert!((above.encode(3, 1 << 13) / at.encode(3, 1 << 12) - ratio).abs() < 1e-12);
    }
}
