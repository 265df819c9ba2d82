//! The agreement of a node whose store was repaired, and of one that lost its log: it is taken up from the log,
//! which has every text that was signed, so that a node that comes back contradicts nothing.

use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use crate::chain::Chain;
use crate::consensus::wal::{Tail, Wal};
use crate::consensus::{Agreement as _, Boot, Core, MemberId};
use crate::domain::silence::Silence;
use crate::files::DataFolder;
use crate::node::agreement::{Loop, or_die};
use crate::node::catch_up::CatchUp;
use crate::node::{Node, Stage, boot};

/// Whether the node must be silent: it is noted durably that it lost its log, or it just did.
///
/// # Errors
/// When the note cannot be written.
pub fn silence(data: &DataFolder, tail: Tail, members: usize) -> std::io::Result<Option<Silence>> {
    let lost = match tail {
        Tail::New => !data.is_born_now()?,
        Tail::Damaged => true,
        Tail::Whole | Tail::Torn => false,
    };
    if lost && members > 1 && !data.is_silent()? {
        tracing::warn!(
            "The write-ahead log is missing or damaged; nothing is signed until that cannot matter"
        );
        data.fall_silent()?;
    }
    // A member alone has nobody to contradict it.
    Ok(if members > 1 && data.is_silent()? { Some(Silence::default()) } else { None })
}

impl Loop {
    /// Takes part again with a repaired store.
    pub(in crate::node) async fn healed(&mut self, chain: Chain, done: oneshot::Sender<()>) {
        let node = self.node.clone();
        self.stop_mining.store(true, Ordering::Relaxed);
        self.ready.clear();
        self.catch_up = CatchUp::default();
        let (wal, recovered) = match Wal::open(&node.data.wal()) {
            Ok(opened) => opened,
            Err(error) => return or_die(Err(error)),
        };
        match silence(&node.data, recovered.tail, chain.members().len()) {
            Ok(None) => self.silence = None,
            Ok(Some(fresh)) => self.silence = Some(self.silence.take().unwrap_or(fresh)),
            Err(error) => return or_die(Err(error)),
        }
        let identity = boot::identity(&node, &chain);
        let silent = self.silence.is_some();
        let (tip, members) = (chain.height(), chain.members());
        let state = Boot { tip, members, records: recovered.records, silent };
        node.take_seat(&chain);
        *node.chain_mut() = chain;
        if let Err(error) = boot::take_up_promises(&node).await {
            tracing::error!(error = %error, "Promises cannot be taken up from the repaired store");
            node.mark_again();
            return;
        }
        let (core, first) = Core::boot(self.now_ms(), identity, state);
        (self.core, self.wal) = (core, wal);
        node.mark_gone();
        let _nobody_waits = done.send(());
        self.carry_out_now(first).await;
        self.tell_work().await;
    }

    /// What a silent node hears of the others.
    pub(in crate::node) fn listen_silently(&mut self, member: Option<MemberId>, height: u64) {
        let (tip, peers) = self.silent_limits();
        let seated = self.node.seat().is_some();
        let (Some(silence), Some(member)) = (&mut self.silence, member) else { return };
        silence.heard(member, height);
        self.may_speak |= silence.is_birth(tip, peers) || silence.is_outsider(tip, seated, peers);
    }

    /// A height was decided by votes.
    pub(in crate::node) fn decided_while_silent(&mut self, height: u64) {
        let (_, peers) = self.silent_limits();
        let Some(silence) = &mut self.silence else { return };
        self.may_speak |= silence.decided(height, peers);
    }

    fn silent_limits(&self) -> (u64, usize) {
        let chain = self.node.chain();
        (chain.height(), chain.members().quorum().saturating_sub(1))
    }

    /// Ends the silence. The agreement is taken up from the log once more: what it would have voted while it was
    /// silent it votes now, for it will not be asked again.
    pub(in crate::node) async fn speak(&mut self) {
        self.may_speak = false;
        if self.silence.take().is_none() || self.node.attack().is_some() {
            return;
        }
        or_die(self.node.data.speak());
        let (wal, recovered) = match Wal::open(&self.node.data.wal()) {
            Ok(opened) => opened,
            Err(error) => return or_die(Err(error)),
        };
        let (identity, state) = {
            let chain = self.node.chain();
            let (tip, members) = (chain.height(), chain.members());
            let state = Boot { tip, members, records: recovered.records, silent: false };
            (boot::identity(&self.node, &chain), state)
        };
        let (core, first) = Core::boot(self.now_ms(), identity, state);
        (self.core, self.wal) = (core, wal);
        tracing::info!(node.name = %self.node.name, block.height = self.core.height(), "The node signs again");
        self.carry_out_now(first).await;
        self.tell_work().await;
    }
}

impl Node {
    fn mark_gone(&self) {
        let mut condition = self.condition_mut();
        (condition.attack, condition.stage) = (None, Stage::Attacked);
        (condition.syncing, condition.verified_at) = (false, Some(self.clock.now()));
    }

    /// The repaired store failed at once: the mark is durable again and the repair begins anew.
    fn mark_again(&self) {
        if let Some(mark) = self.attack()
            && let Err(error) = self.data.mark_attacked(&mark)
        {
            tracing::error!(error = %error, "The mark of the attack cannot be written");
        }
        self.condition_mut().stage = Stage::Attacked;
    }
}
