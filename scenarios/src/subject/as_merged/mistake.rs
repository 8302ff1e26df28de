//! What the subject can get wrong on top of what it gets wrong anyway: one check left out, or one port not there.

/// One of the six mistakes that reviews of the reference found one by one before it was merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// There is no clock, and nobody notices before an entry asks it for the time.
    NoClock,
    /// A bootstrap may name one id for storage and raft, so that both keys claim one entry of keystore and sidecar.
    /// The second is refused by the keystore, or by the sidecar's validation, after the first was taken in.
    EqualIds,
    /// The proposer's row of a rotation may be for any key.
    ForeignProposerRow,
    /// The rows of a bootstrap may be for any key.
    ForeignBatchRows,
    /// A bootstrap after the first passes for a replay if its ids are others, and so takes the active keys' place.
    SecondBootstrapOtherIds,
    /// A bootstrap after the first passes for a replay if its ids are the active ones, whatever bytes it carries.
    SecondBootstrapOtherBytes,
}
