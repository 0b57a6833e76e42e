//! Executes compiled circuits: clear, encrypted, or both in lockstep
