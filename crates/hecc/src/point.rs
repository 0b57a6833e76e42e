//! All that decides the compiled circuit, under a name: `O2.levels.auto`, `O3.time.packed.s4096`.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use hecc_passes::compile::CompileOptions;
use hecc_passes::layout::{self, Strategy};
use hecc_passes::pipeline;

use crate::args::{Choice, Layout, Objective, Packing};

/// One way to compile a circuit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) opt_level: u8,
    pub(crate) objective: Objective,
    pub(crate) layout: Layout,
    pub(crate) max_slots: Option<usize>,
    pub(crate) ring: Option<u64>,
    pub(crate) scale_bits: Option<u32>,
    pub(crate) packing: Packing,
    /// Most growth of the inputs with `@precompute`, in percent.
    pub(crate) precompute: Option<u32>,
}

fn name_of(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |v| v.get_name().to_owned())
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (objective, layout) = (name_of(self.objective), name_of(self.layout));
        write!(f, "O{}.{objective}.{layout}", self.opt_level)?;
        if let Some(slots) = self.max_slots {
            write!(f, ".s{slots}")?;
        }
        if let Some(ring) = self.ring {
            write!(f, ".n{ring}")?;
        }
        if let Some(bits) = self.scale_bits {
            write!(f, ".b{bits}")?;
        }
        if let Some(percent) = self.precompute {
            write!(f, ".p{percent}")?;
        }
        match self.packing {
            Packing::Auto => Ok(()),
            packing => write!(f, ".{}", name_of(packing)),
        }
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Point, String> {
        let refuse = || {
            format!(
                "`{text}` names no point: a name is as `hecc explore` prints it, as in O2.levels.auto or O3.time.packed.s4096"
            )
        };
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or_else(refuse);
        let opt_level = match part()? {
            "O0" => 0,
            "O1" => 1,
            "O2" => 2,
            "O3" => 3,
            _ => return Err(refuse()),
        };
        let objective = Objective::from_str(part()?, false).map_err(|_| refuse())?;
        let layout = Layout::from_str(part()?, false).map_err(|_| refuse())?;
        let mut point = Point {
            opt_level,
            objective,
            layout,
            ..Point::default()
        };
        for part in parts {
            if let Ok(packing) = Packing::from_str(part, false) {
                point.packing = packing;
                continue;
            }
            let number = |i: usize| part.get(i..).and_then(|n| n.parse().ok());
            match part.chars().next() {
                Some('s') if point.max_slots.is_none() => point.max_slots = number(1),
                Some('n') if point.ring.is_none() => {
                    point.ring = number(1).map(|n: usize| n as u64);
                }
                Some('b') if point.scale_bits.is_none() => {
                    point.scale_bits = number(1).and_then(|n: usize| u32::try_from(n).ok());
                }
                Some('p') if point.precompute.is_none() => {
                    point.precompute = number(1)
                        .and_then(|n: usize| u32::try_from(n).ok())
                        .filter(|n| *n >= 100);
                }
                _ => return Err(refuse()),
            }
        }
        // Canonical: whatever is not a number, or comes in another order, is no name.
        if point.to_string() == text {
            Ok(point)
        } else {
            Err(refuse())
        }
    }
}

impl Point {
    /// The point that the flags mean.
    pub(crate) fn of(choice: &Choice) -> Point {
        choice.point.unwrap_or(Point {
            opt_level: choice.opt_level,
            objective: choice.objective,
            layout: choice.layout,
            max_slots: choice.max_slots,
            ring: choice.ring,
            scale_bits: choice.scale_bits,
            packing: choice.packing,
            precompute: choice.precompute,
        })
    }

    /// The flags that mean this point.
    pub(crate) fn flags(&self) -> String {
        let (objective, layout) = (name_of(self.objective), name_of(self.layout));
        let mut out = format!(
            "-O {} --objective {objective} --layout {layout}",
            self.opt_level
        );
        if let Some(slots) = self.max_slots {
            out.push_str(&format!(" --max-slots {slots}"));
        }
        if let Some(ring) = self.ring {
            out.push_str(&format!(" --ring {ring}"));
        }
        if let Some(bits) = self.scale_bits {
            out.push_str(&format!(" --scale-bits {bits}"));
        }
        if let Some(percent) = self.precompute {
            out.push_str(&format!(" --precompute {}", f64::from(percent) / 100.0));
        }
        if self.packing != Packing::Auto {
            out.push_str(&format!(" --packing {}", name_of(self.packing)));
        }
        out
    }

    /// The compiler's options.
    pub(crate) fn options(&self) -> CompileOptions {
        let mut options = CompileOptions::default();
        options.passes.opt_level = self.opt_level;
        options.passes.objective = match self.objective {
            Objective::Depth => pipeline::Objective::Depth,
            Objective::Levels => pipeline::Objective::Levels,
            Objective::Work => pipeline::Objective::Work,
            Objective::Time => pipeline::Objective::Time,
            Objective::Bandwidth => pipeline::Objective::Bandwidth,
        };
        options.layout.strategy = match self.layout {
            Layout::Auto => Strategy::Auto,
            Layout::Elements => Strategy::Elements,
            Layout::Packed => Strategy::Packed,
            Layout::Tiles => Strategy::Tiles,
        };
        if let Some(slots) = self.max_slots {
            options.layout.max_slots = slots;
        }
        options.layout.packing = match self.packing {
            Packing::Auto => layout::Packing::Auto,
            Packing::Real => layout::Packing::Real,
            Packing::Complex => layout::Packing::Complex,
        };
        options.precompute = self.precompute.map(|percent| f64::from(percent) / 100.0);
        options.timing = hecc_runtime::times;
        options.overrides.ring = self.ring;
        options.overrides.scale_bits = self.scale_bits;
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for opt_level in 0..4 {
            for objective in Objective::value_variants() {
                for (i, layout) in Layout::value_variants().iter().enumerate() {
                    let point = Point {
                        opt_level,
                        objective: *objective,
                        layout: *layout,
                        max_slots: (i > 0).then_some(1 << (9 + i)),
                        ring: (opt_level == 2).then_some(16384),
                        scale_bits: (opt_level == 3).then_some(35),
                        packing: if i == 2 { Packing::Real } else { Packing::Auto },
                        precompute: (i == 1).then_some(250),
                    };
                    assert_eq!(point.to_string().parse(), Ok(point));
                }
            }
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "O4.levels.auto",
            "O2",
            "O2.levels",
            "O2.speed.auto",
            "O2.levels.auto.",
            "O2.levels.auto.s",
            "O2.levels.auto.sx",
            "O2.levels.auto.b40.s64",
            "O2.levels.auto.s64.s64",
            "O2.levels.auto.é4",
            "O2.levels.auto.s064",
            "O2.levels.auto.p99",
            "O2.levels.auto.real.p200",
            "O2.levels.auto.auto",
        ] {
            assert!(text.parse::<Point>().is_err(), "{text}");
        }
    }
}
