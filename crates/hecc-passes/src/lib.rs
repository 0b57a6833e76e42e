//! Passes over circuit graphs: optimisation, layout, scale and level management
