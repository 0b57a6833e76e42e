//! Any bytes are an array within the limits, or refused. The first byte chooses the format.
#![no_main]

use hecc_lang::load::{Format, Limits, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else {
        return;
    };
    let format = match choice % 5 {
        0 => Format::Npy,
        1 => Format::Npz,
        2 => Format::Csv,
        3 => Format::Json,
        _ => Format::Safetensors,
    };
    let limits = Limits {
        bytes: 1 << 20,
        elements: 1 << 16,
    };
    for key in [None, Some("a")] {
        match read(format, bytes, key, &limits) {
            Ok(array) => {
                assert!(array.values.len() <= limits.elements);
                assert_eq!(array.shape.iter().product::<usize>(), array.values.len());
                assert!(array.values.iter().all(|v| v.is_finite()));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});
