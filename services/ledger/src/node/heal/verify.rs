//! The healed database is read once more, whole, on connections that have cached nothing, before anything relies
//! on it.

use hbc_chain::memory::Chain;

use super::site::{HealError, Site};
use crate::node::guardian::{Failure, fault_beside, verify_blocks};

/// Verifies the file that is in place now against the chain that was just made from its blocks.
///
/// # Errors
/// [`HealError::Unsound`] when a byte differs.
pub async fn verify(site: &Site<'_>, chain: &Chain) -> Result<(), HealError> {
    let store = site.store;
    let tip = chain.height();
    let verification = store.verification().await?;
    if let Some(fault) = fault_beside(store, tip).await? {
        return Err(HealError::Unsound(fault));
    }
    verify_blocks(store, chain.hashes(), &|height| chain.known(height)).await?;
    verification.accept();
    Ok(())
}

impl From<Failure> for HealError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Fault(fault) => Self::Unsound(fault),
            Failure::Trouble(error) => Self::Store(error),
        }
    }
}
