//! Assignment of the inputs of pending requests to batches whose responses can be matched.

/// Assignment of inputs to batches.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Partition {
    /// For each input the number of its batch, or `None` to send it individually.
    pub(super) batches: Vec<Option<usize>>,
    /// Indexes of those without a batch, in ascending order, for which a batch of one can show whether they can share one.
    pub(super) unknown: Vec<usize>,
}

// === impl Partition ===

impl Partition {
    /// An assignment that no batch of one would change.
    pub(super) fn known(batches: Vec<Option<usize>>) -> Self {
        Self { batches, unknown: Vec::new() }
    }

    /// An assignment of which nothing is known yet.
    pub(super) fn unknown(inputs: usize) -> Self {
        Self { batches: vec![None; inputs], unknown: (0..inputs).collect() }
    }
}
