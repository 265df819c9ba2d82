//! Whether this node abstains: it lost its log, so it signs nothing until what it may have signed cannot matter any
//! more.

use super::heal::resume::KnownMembers;
use crate::domain::double_sign_protection::DoubleSignProtection;
use crate::peers::Peer;

/// Double-sign protection of one node, and whether what kept it from signing is over.
#[derive(Debug)]
pub struct Quiet {
    double_sign_protection: Option<DoubleSignProtection>,
    over: bool,
}

impl Quiet {
    /// Abstaining if the log was lost.
    #[must_use]
    pub const fn new(double_sign_protection: Option<DoubleSignProtection>) -> Self {
        Self { double_sign_protection, over: false }
    }

    /// True while nothing may be signed.
    #[must_use]
    pub const fn is_abstaining(&self) -> bool {
        self.double_sign_protection.is_some()
    }

    /// True once, as soon as what kept it from signing is over.
    pub const fn take_end(&mut self) -> bool {
        std::mem::replace(&mut self.over, false)
    }

    /// The log was looked at again: what was heard so far still counts, if double-sign protection goes on.
    pub fn renew(&mut self, found: Option<DoubleSignProtection>) {
        self.double_sign_protection = found.map(|fresh| self.double_sign_protection.take().unwrap_or(fresh));
    }

    /// Nothing that was heard counts any more.
    pub fn begin_anew(&mut self) {
        self.double_sign_protection = Some(DoubleSignProtection::default());
    }

    /// The node signs again.
    pub fn end(&mut self) {
        self.double_sign_protection = None;
    }

    /// A peer said where it stands. `has_key`: this node is a member.
    pub fn hear(&mut self, peer: &Peer, height: u64, known_members: KnownMembers, has_key: bool) {
        let counts = if known_members.members == 1 { peer.configured } else { peer.id().is_some() };
        let (Some(double_sign_protection), Some(tip), true) =
            (&mut self.double_sign_protection, known_members.tip, counts)
        else {
            return;
        };
        let needed = DoubleSignProtection::needed(known_members.members.max(1 + known_members.peers));
        double_sign_protection.heard(&peer.name, height);
        self.over |= double_sign_protection.is_birth(tip, needed)
            || double_sign_protection.is_outsider(tip, has_key, needed)
            || (known_members.members == 1 && double_sign_protection.is_abreast(tip, needed));
    }

    /// A height was decided by votes, among so many members.
    pub fn decided(&mut self, height: u64, members: usize) {
        let Some(double_sign_protection) = &mut self.double_sign_protection else { return };
        self.over |= double_sign_protection.decided(height, DoubleSignProtection::needed(members));
    }
}
