//! Any bytes are a boolean circuit that is optimized without a change of meaning, or refused.
#![no_main]

use hecc_bool::formats::{aiger, blif, eqn};
use hecc_bool::{analyse, differ, optimize};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else {
        return;
    };
    let read = match (choice % 3, std::str::from_utf8(bytes)) {
        (0, _) => aiger::read(bytes),
        (1, Ok(text)) => blif::read(text),
        (_, Ok(text)) => eqn::read(text),
        (_, Err(_)) => return,
    };
    let Ok(network) = read else {
        return;
    };
    if network.inputs.len() > 12 || network.nodes().len() > 200 {
        return;
    }
    let optimized = optimize(&network).expect("no step changes the meaning").network;
    assert_eq!(differ(&network, &optimized), None);
    for output in analyse(&optimized).outputs {
        assert!(output.optimal(), "{output:?}");
    }
});
