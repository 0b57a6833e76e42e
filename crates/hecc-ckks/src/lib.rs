//! A full-RNS CKKS engine
