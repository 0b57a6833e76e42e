//! Any bytes are a model that becomes a program in canonical form, or refused.
#![no_main]

use hecc_import::onnx::{Options, import};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let options = Options {
        file: "fuzz.onnx".to_owned(),
        weights: "fuzz.safetensors".to_owned(),
        degree: None,
        ..Options::default()
    };
    match import(bytes, &options) {
        Ok(imported) => assert_eq!(
            hecc_lang::format(&imported.program).as_ref(),
            Ok(&imported.program)
        ),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
