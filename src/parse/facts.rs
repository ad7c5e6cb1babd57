//! What a log says of its job by the way: framework, versions, method, model, batch sizes.

use crate::model::knobs::Knobs;

/// Collects facts from the bytes of one log, in order, in any chunking.
#[derive(Debug, Default)]
pub struct Facts {
    knobs: Knobs,
}

impl Facts {
    pub fn feed(&mut self, _bytes: &[u8]) {}

    /// What has been found so far; every origin is `Origin::Log`.
    pub fn knobs(&self) -> &Knobs {
        &self.knobs
    }
}
