//! The shipped circuits and hostile ones: the bound is reached, and the meaning stays.

use std::fs;
use std::path::Path;

use hecc_bool::formats::{aiger, blif, eqn};
use hecc_bool::{Network, analyse, differ, optimize};

fn shipped(name: &str) -> Network {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../circuits/boolean");
    let path = folder.join(name);
    let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let text = String::from_utf8_lossy(&bytes);
    let read = match path.extension().and_then(|e| e.to_str()) {
        Some("eqn") => eqn::read(&text),
        Some("blif") => blif::read(&text),
        _ => aiger::read(&bytes),
    };
    read.unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Optimizes, and expects every output at its bound; depth and ANDs of the result.
#[track_caller]
fn optimal(network: &Network) -> (u32, usize) {
    let optimized = optimize(network).unwrap();
    let found = optimized.network;
    assert_eq!(differ(network, &found), None);
    let analysis = analyse(&found);
    for o in &analysis.outputs {
        assert!(o.exact, "{} has {} inputs", o.name, o.inputs);
        assert!(
            o.optimal(),
            "{}: depth {}, bound {}",
            o.name,
            o.depth,
            o.bound
        );
    }
    let measures = found.measures();
    assert_eq!(measures.depth, analysis.bound);
    (measures.depth, measures.ands)
}

#[test]
fn the_shipped_cones_reach_their_bounds() {
    for (name, written, depth, ands) in [
        ("priority8.eqn", 7, 3, 12),
        ("priority16.eqn", 15, 4, 32),
        ("decoder4.blif", 2, 2, 11),
        ("comparator8.eqn", 15, 4, 39),
        ("sorter4.eqn", 3, 2, 7),
        ("sorter4x2.eqn", 15, 3, 300),
        ("full_adder.aag", 4, 1, 2),
    ] {
        let network = shipped(name);
        assert_eq!(network.measures().depth, written, "{name} as written");
        let (found, count) = optimal(&network);
        assert_eq!(found, depth, "{name}");
        assert!(count <= ands, "{name}: {count} ANDs");
    }
}

#[test]
fn large_cones_get_shallow_too() {
    let network = shipped("adder32.eqn");
    let optimized = optimize(&network).unwrap();
    assert_eq!(differ(&network, &optimized.network), None);
    let (before, after) = (network.measures(), optimized.network.measures());
    let analysis = analyse(&optimized.network);
    // The carry has degree 33; 16 free inputs show a part of it.
    assert!(analysis.bound >= 3, "{analysis:?}");
    assert!(
        before.depth >= 62 && after.depth <= 8,
        "{before:?} {after:?}"
    );
}

fn eqn_of(text: &str) -> Network {
    eqn::read(text).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn hard_shapes() {
    let inputs = |n: usize| {
        (0..n)
            .map(|i| format!("x{i}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let head = |n| format!("INORDER = {}; OUTORDER = y;\n", inputs(n));
    // Cancellation: nothing is left of the product.
    let text = head(3) + "a = x0 * x1 * x2; y = a ^ x0 ^ a;";
    assert_eq!(optimal(&eqn_of(&text)), (0, 0));
    // A constant.
    assert_eq!(optimal(&eqn_of(&(head(2) + "y = x0 * !x0 + 1;"))), (0, 0));
    // One depth more than is needed, hidden in a shared subterm.
    let text = head(4) + "s = x0 * x1; t = s * x2; y = (t ^ s) * x3 ^ t * x3;";
    assert_eq!(optimal(&eqn_of(&text)).0, 2);
    // Odd parity of products that overlap.
    let pairs: Vec<String> = (0..16)
        .map(|i| format!("x{i} * x{}", (i + 1) % 16))
        .collect();
    let text = head(16) + &format!("y = {};", pairs.join(" ^ "));
    assert_eq!(optimal(&eqn_of(&text)).0, 1);
    // The OR of all, as a chain, and an output that is an input's complement beside it.
    let chain: Vec<String> = (0..16).map(|i| format!("x{i}")).collect();
    let text = format!(
        "INORDER = {}; OUTORDER = y z;\ny = {}; z = !x3;",
        inputs(16),
        chain.join(" + ")
    );
    assert_eq!(optimal(&eqn_of(&text)), (4, 15));
    // Majority of seven, as the sum of all products of four.
    let mut products = Vec::new();
    for set in 0u32..128 {
        if set.count_ones() == 4 {
            let of: Vec<String> = (0..7)
                .filter(|i| set >> i & 1 == 1)
                .map(|i| format!("x{i}"))
                .collect();
            products.push(of.join(" * "));
        }
    }
    let text = head(7) + &format!("y = {};", products.join(" + "));
    assert_eq!(optimal(&eqn_of(&text)).0, 2);
}

#[test]
fn random_circuits_keep_their_meaning() {
    for seed in 0..12u64 {
        let inputs = [5usize, 9, 16, 24][seed as usize % 4];
        let mut state = seed;
        let mut next = |n: usize| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        let mut names: Vec<String> = (0..inputs).map(|i| format!("x{i}")).collect();
        let mut text = format!("INORDER = {};\nOUTORDER = g57 g58 g59;\n", names.join(" "));
        for g in 0..60 {
            let recent = names.len().min(12);
            let of = |k: usize, invert: usize| {
                format!("{}{}", ["", "!"][invert], names[names.len() - 1 - k])
            };
            let (a, b) = (of(next(recent), next(2)), of(next(names.len()), next(2)));
            text += &format!("g{g} = {a} {} {b};\n", ["*", "+", "^"][next(3)]);
            names.push(format!("g{g}"));
        }
        let network = eqn_of(&text);
        let optimized = optimize(&network).unwrap();
        assert_eq!(differ(&network, &optimized.network), None, "seed {seed}");
        assert!(optimized.network.measures().depth <= network.measures().depth);
        let analysis = analyse(&optimized.network);
        for o in &analysis.outputs {
            assert!(o.bound <= o.depth, "seed {seed}: {o:?}");
            assert!(!o.exact || o.optimal(), "seed {seed}: {o:?}");
        }
    }
}

#[test]
fn every_format_reads_what_it_writes() {
    for name in [
        "comparator8.eqn",
        "sorter4x2.eqn",
        "decoder4.blif",
        "full_adder.aag",
    ] {
        let network = shipped(name).shared();
        let again = eqn::read(&eqn::write(&network)).unwrap();
        assert_eq!(differ(&network, &again), None, "{name} as EQN");
        assert_eq!(again.measures(), network.measures(), "{name} as EQN");
        let again = blif::read(&blif::write(&network)).unwrap();
        assert_eq!(
            again.measures().depth,
            network.measures().depth,
            "{name} as BLIF"
        );
        assert_eq!(differ(&network, &again), None, "{name} as BLIF");
        let again = aiger::read(aiger::write(&network).as_bytes()).unwrap();
        assert_eq!(differ(&network, &again), None, "{name} as AIGER");
    }
}

#[test]
fn covers() {
    let text = ".model m\n.inputs a b \\\n c # two lines\n.outputs x e n o z\n\
                .names a b x\n01 1\n10 1\n.names a b e\n01 0\n10 0\n.names a b c n\n1-0 1\n-11 1\n\
                .names o\n1\n.names z\n.end\n";
    let expected = eqn_of(
        "INORDER = a b c; OUTORDER = x e n o z; x = a ^ b; e = !(a ^ b); n = a * !c + b * c; o = 1; z = 0;",
    );
    let found = blif::read(text).unwrap();
    assert_eq!(differ(&found, &expected), None);
    assert_eq!(found.depths()[found.outputs[1].1.node()], 0);
}

#[test]
fn binary_aiger() {
    // y = (a AND NOT b) AND c, from the format's definition: 8 = 2 AND 5, 10 = 8 AND 6.
    let mut bytes = b"aig 5 3 0 1 2\n11\n".to_vec();
    bytes.extend([8 - 5, 5 - 2, 10 - 8, 8 - 6]);
    bytes.extend(b"i0 a\no0 y\nc\nnote");
    let network = aiger::read(&bytes).unwrap();
    assert_eq!(network.inputs, ["a", "i1", "i2"]);
    let expected = eqn_of("INORDER = a i1 i2; OUTORDER = y; y = !(a * !i1 * i2);");
    assert_eq!(differ(&network, &expected), None);
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let equations = |text: &str| eqn::read(text).unwrap_err().to_string();
    for (text, part) in [
        ("OUTORDER = y; y = 1;", "no INORDER"),
        (
            "INORDER = a;\nOUTORDER = y;\ny = a * b;",
            "line 3: `b` is neither",
        ),
        ("INORDER = a;\nOUTORDER = y;\ny = z;\nz = y;", "cycle"),
        (
            "INORDER = a;\nOUTORDER = y;\ny = a & a;",
            "line 3: `&` is no operator",
        ),
        ("INORDER = a;\nOUTORDER = y;\ny = a", "the text ends"),
        (
            "INORDER = a;\nOUTORDER = y;\ny = (a;",
            "`;` stands where `)`",
        ),
        ("INORDER = a a;\nOUTORDER = y;\ny = a;", "twice"),
        (
            "INORDER = a;\nOUTORDER = y;\ny = a;\ny = !a;",
            "line 4: `y` is defined twice",
        ),
    ] {
        let found = equations(text);
        assert!(found.contains(part), "no {part:?} in {found:?}");
    }
    let nested = format!(
        "INORDER = a; OUTORDER = y; y = {}a{};",
        "(".repeat(5000),
        ")".repeat(5000)
    );
    assert!(equations(&nested).contains("nest deeper"));
    for (text, part) in [
        (
            ".model m\n.inputs a\n.outputs y\n.latch a y\n.end",
            "line 4: there is a latch",
        ),
        (
            ".inputs a\n.outputs y\n.names a y\n11 1\n",
            "line 4: a row of `y`",
        ),
        (
            ".inputs a\n.outputs y\n.names a y\n2 1\n",
            "none of 0, 1 and -",
        ),
        (
            ".inputs a\n.outputs y\n.gate and a=a y=y\n",
            "line 3: .gate",
        ),
        (".inputs a\n.outputs y\n1 1\n", "belongs to no .names"),
        (".inputs a\n.outputs y\n", "`y` is not defined"),
    ] {
        let found = blif::read(text).unwrap_err().to_string();
        assert!(found.contains(part), "no {part:?} in {found:?}");
    }
    for (text, part) in [
        ("aag 1 1 1 0 0\n2\n", "latches"),
        ("aag 99999999999 1 0 0 0\n", "the header is"),
        ("aag 9000000 1 0 0 8000000\n2\n", "shorter than its header"),
        ("aag 3 1 0 1 2\n2\n4\n4 6 2\n6 4 2\n", "needs itself"),
        ("aag 2 1 0 1 1\n2\n4\n4 9 2\n", "is not defined"),
        ("aig 2 1 0 1 1\n4\n\u{1}", "ends within a gate"),
        ("agg", "starts with aag or aig"),
    ] {
        let found = aiger::read(text.as_bytes()).unwrap_err().to_string();
        assert!(found.contains(part), "no {part:?} in {found:?}");
    }
}

/// Damaged files are refused with a reason, or are circuits that keep their meaning: no crash.
#[test]
fn damaged_files_are_refused_or_keep_their_meaning() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../circuits/boolean");
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut below = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n.max(1) as u64) as usize
    };
    let (mut refused, mut read) = (0, 0);
    for name in ["full_adder.aag", "decoder4.blif", "sorter4.eqn"] {
        let whole = fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        for round in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..1 + below(3) {
                let (at, from) = (below(bytes.len()), below(whole.len()));
                match below(5) {
                    0 => bytes[at] = below(256) as u8,
                    // what is there already is more likely to be read
                    1 => bytes[at] = whole[from],
                    2 => drop(bytes.remove(at)),
                    3 => bytes.insert(at, whole[from]),
                    _ => {
                        let end = whole.len().min(from + 1 + below(12));
                        bytes.splice(at..at, whole[from..end].iter().copied());
                    }
                }
            }
            if below(8) == 0 {
                bytes.truncate(below(bytes.len()));
            }
            let text = String::from_utf8_lossy(&bytes);
            let found = match name.rsplit('.').next() {
                Some("eqn") => eqn::read(&text),
                Some("blif") => blif::read(&text),
                _ => aiger::read(&bytes),
            };
            match found {
                Err(e) => {
                    assert!(!e.to_string().is_empty());
                    refused += 1;
                }
                Ok(network) if network.inputs.len() <= 10 && network.nodes().len() <= 100 => {
                    read += 1;
                    let better = optimize(&network)
                        .unwrap_or_else(|e| panic!("{name}, round {round}: {e}\n{text}"))
                        .network;
                    assert_eq!(
                        differ(&network, &better),
                        None,
                        "{name}, round {round}\n{text}"
                    );
                }
                Ok(_) => {}
            }
        }
    }
    // Neither side is empty.
    assert!(
        refused > 200 && read > 100,
        "{refused} refused, {read} read"
    );
}
