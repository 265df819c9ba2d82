//! Whether this node is silent: it lost its log, so it signs nothing until what it may have signed cannot matter any more.

use super::heal::resume::Company;
use crate::domain::silence::Silence;
use crate::peers::Peer;

/// The silence of one node, and whether what kept it silent is over.
#[derive(Debug)]
pub struct Quiet {
    silence: Option<Silence>,
    over: bool,
}

impl Quiet {
    /// Silent if there is a silence to keep.
    #[must_use]
    pub const fn new(silence: Option<Silence>) -> Self {
        Self { silence, over: false }
    }

    /// True while nothing may be signed.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        self.silence.is_some()
    }

    /// True once, as soon as what kept it silent is over.
    pub const fn take_end(&mut self) -> bool {
        std::mem::replace(&mut self.over, false)
    }

    /// The log was looked at again: what was heard so far still counts, if the silence goes on.
    pub fn renew(&mut self, found: Option<Silence>) {
        self.silence = found.map(|fresh| self.silence.take().unwrap_or(fresh));
    }

    /// Nothing that was heard counts any more.
    pub fn begin_anew(&mut self) {
        self.silence = Some(Silence::default());
    }

    /// The node signs again.
    pub fn end(&mut self) {
        self.silence = None;
    }

    /// A peer said where it stands. `seated`: this node is a member.
    pub fn hear(&mut self, peer: &Peer, height: u64, company: Company, seated: bool) {
        let counts = if company.members == 1 { peer.configured } else { peer.id().is_some() };
        let (Some(silence), Some(tip), true) = (&mut self.silence, company.tip, counts) else { return };
        let needed = Silence::needed(company.members.max(1 + company.peers));
        silence.heard(&peer.name, height);
        self.over |= silence.is_birth(tip, needed)
            || silence.is_outsider(tip, seated, needed)
            || (company.members == 1 && silence.is_abreast(tip, needed));
    }

    /// A height was decided by votes, among so many members.
    pub fn decided(&mut self, height: u64, members: usize) {
        let Some(silence) = &mut self.silence else { return };
        self.over |= silence.decided(height, Silence::needed(members));
    }
}
