//! Whether IPFS holds a segment, and what is done when it does not.

use std::str::FromStr;

use cid::Cid;
use hbc_types::Digest;

use crate::app::{App, blocking};
use crate::error::Error;
use crate::store::SegmentRow;

/// Whether a segment is pinned; one that is not is pinned again from the spool, if it is still there.
pub async fn ensure_pinned(app: &App, segment: &SegmentRow) -> Result<bool, Error> {
    let cid = Cid::from_str(&segment.cid).map_err(|_cid| Error::integrity("a CID", segment.cid.clone()))?;
    if app.blobs.is_pinned(cid).await? {
        return Ok(true);
    }
    let (spool, intent, position) = (app.spool.clone(), segment.intent.clone(), segment.position);
    let spooled = blocking(move || spool.read(&intent, position).map_err(Error::Spool)).await?;
    let Some(bytes) = spooled.filter(|bytes| Digest::of(bytes) == segment.digest) else {
        tracing::error!(
            alarm = "segment_lost",
            ipfs.cid = segment.cid,
            "IPFS has lost a segment, and the spool has it no more"
        );
        return Ok(false);
    };
    app.blobs.put(bytes).await?;
    tracing::warn!(ipfs.cid = segment.cid, "IPFS had lost a segment: it was pinned again from the spool");
    Ok(true)
}
