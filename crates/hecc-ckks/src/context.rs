//! The context: parameters with everything that is computed from them once.
use crate::Result;
use crate::ring::Pool;
use hecc_params::Parameters;
use std::sync::Arc;

/// How a context computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Spread single operations over limbs with rayon. Off by default: a caller that runs many
    /// independent operations parallelises better over those.
    pub parallel: bool,
    /// Use the portable kernels even where the processor has faster ones. Results are the same bit
    /// for bit.
    pub portable: bool,
}

/// Checked parameters with their NTT tables and constants. Cheap to clone, shared between threads.
#[derive(Clone)]
pub struct Context {
    pub(crate) inner: Arc<Inner>,
    pub(crate) parallel: bool,
}
pub(crate) struct Inner {
    pub(crate) parameters: Parameters,
    pub(crate) pool: Pool,
}

impl Context {
    /// Builds the tables; [`Options::default`].
    ///
    /// # Errors
    /// [`Error::NoNtt`](crate::Error::NoNtt), which checked parameters never give.
    pub fn new(parameters: Parameters) -> Result<Context> {
        Context::with_options(parameters, Options::default())
    }
    /// Builds the tables.
    ///
    /// # Errors
    /// As [`Context::new`].
    pub fn with_options(parameters: Parameters, options: Options) -> Result<Context> {
        let pool = Pool::new(parameters.log_n().degree(), 1);
        Ok(Context {
            inner: Arc::new(Inner { parameters, pool }),
            parallel: options.parallel,
        })
    }
    /// The same context with single operations spread over threads, or not.
    pub fn parallel(&self, on: bool) -> Context {
        Context {
            inner: self.inner.clone(),
            parallel: on,
        }
    }
    /// The parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.inner.parameters
    }
}
