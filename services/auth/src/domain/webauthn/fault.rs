//! Why what a browser and an authenticator said is not taken.

/// A rule of WebAuthn Level 3 that does not hold (§7.1 for a passkey that was made, §7.2 for one that was used).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CeremonyError {
    /// A part has another form, by its name.
    #[error("`{0}` cannot be read")]
    Malformed(&'static str),
    /// The page made a passkey where one was to be used, or the other way round.
    #[error("of another ceremony")]
    Ceremony,
    /// The page is not one of the deployment's.
    #[error("from a page of another origin")]
    Origin,
    /// The page stood within another site's.
    #[error("from a page within another site's")]
    CrossOrigin,
    /// The authenticator spoke to another relying party.
    #[error("for another relying party")]
    RelyingParty,
    /// Nobody touched the authenticator.
    #[error("nobody was there")]
    Presence,
    /// The authenticator asked for neither PIN nor finger.
    #[error("the authenticator did not verify its user")]
    Verification,
    /// Flags that exclude each other, or that may not change.
    #[error("whether it is backed up makes no sense")]
    Backup,
    /// A kind of key that was not asked for, or no good one.
    #[error("no good key of a kind that was asked for")]
    Key,
    /// Attested in a way that was not asked for.
    #[error("attested in a way that was not asked for")]
    Attestation,
    /// The signature is not the key's, or over something else.
    #[error("the signature does not fit")]
    Signature,
    /// The authenticator took it for another account's.
    #[error("of another account")]
    Account,
    /// The signature counter did not rise: the key may have been copied.
    #[error("the signature counter went back")]
    Counter,
}
