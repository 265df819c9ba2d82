//! Where good blocks come from: a peer is asked for a range; what it answers is believed only as far as it proves
//! itself.

use std::sync::Arc;
use std::time::Duration;

use hbc_client::Endpoint;
use hbc_client::operations::ledger;
use hbc_consensus::MemberId;
use hbc_types::wire::ledger::BlocksView;

use crate::peers::{Peer, Sender, read_as};

/// A peer that takes longer is not waited for.
const GIVE_UP: Duration = Duration::from_secs(20);

/// A member that can be asked for blocks.
#[derive(Clone, Debug)]
pub struct HealSource {
    /// Its id, if it is a member.
    pub id: Option<MemberId>,
    /// Its name.
    pub name: String,
    /// Where it answers.
    pub endpoint: Endpoint,
    /// In whose name it is asked.
    pub reader: Option<Arc<Sender>>,
}

impl HealSource {
    /// The same peer.
    #[must_use]
    pub fn of(peer: &Peer, reader: Option<Arc<Sender>>) -> Self {
        Self { id: peer.id(), name: peer.name.clone(), endpoint: peer.endpoint.clone(), reader }
    }

    /// Blocks from a height on; none of it is checked yet.
    pub async fn blocks(&self, from: u64, limit: u32) -> Result<BlocksView, hbc_client::ClientError> {
        let route = ledger::list_blocks().with(format!("from={from}&limit={limit}"));
        let path = route.path.clone();
        let call = read_as(self.endpoint.to(route), &path, self.id, self.reader.as_deref());
        call.once().deadline(GIVE_UP).fetch().await
    }
}
