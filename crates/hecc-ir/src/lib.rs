//! The circuit graph: dialects, verifier, text form, interpreter and measures
