//! The repaired database is read once more, whole, on connections that have cached nothing, before anything relies
//! on it.

use hbc_types::Digest;

use super::HealError;
use super::rebuild::Site;
use crate::chain::Chain;
use crate::domain::verification::{Fault, Verifier, Wrong};
use crate::node::guardian::fault_beside;
use crate::store::{ReadAhead, Unsound};

/// Blocks read at once.
const BLOCKS_PER_READ: u32 = 256;

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
    let mut verifier = Verifier::new(chain.hashes());
    let mut pieces = ReadAhead::begin(store.blocks(0).await?, BLOCKS_PER_READ);
    loop {
        let blocks = pieces.next().await?;
        if blocks.is_empty() {
            break;
        }
        for block in &blocks {
            verifier
                .check(block.height, &block.header, &block.body, &mut |_| {})
                .map_err(HealError::Unsound)?;
            let certificate = chain.known(block.height).map(|known| known.certificate);
            if certificate != Some(Digest::of(block.certificate.as_bytes())) {
                let fault = Fault { height: block.height, wrong: Wrong::Certificate };
                return Err(HealError::Unsound(fault));
            }
        }
        tokio::task::yield_now().await;
    }
    verifier.finish().map_err(HealError::Unsound)?;
    verification.accept();
    Ok(())
}

impl From<Unsound> for Wrong {
    fn from(unsound: Unsound) -> Self {
        match unsound {
            Unsound::Schema => Self::Schema,
            Unsound::Pages => Self::Pages,
            Unsound::Journal => Self::Journal,
            Unsound::Row(table) => Self::Row(table),
        }
    }
}
