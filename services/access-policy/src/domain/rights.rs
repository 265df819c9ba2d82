//! The rows that give or take rights, as one text under one MAC per patient (and one per account, one per bucket of
//! ended sessions). The key is outside the database: whoever can write every table still cannot make, revive, widen or
//! hide a grant, swap a root or unfreeze anything without every later decision about that patient being a denial.
//!
//! The patient's MAC covers the pin and **every live grant**, so that a row added by hand fails like a row removed by
//! hand. Grants that ended are outside: bringing one back adds a row. Its cost grows with the living grants only.
//!
//! Each list below takes its type apart without `..`: a field that is added does not compile until somebody has decided
//! whether the MAC covers it.
//!
//! Why: decision 0052.

use hbc_chain::payload::StaffStatus;
use hbc_types::account::{AgencyType, Custody, Standing};
use hbc_types::ids::{AccountId, AgencyId, PatientId, SessionId};
use hbc_types::keys::PublicKey;
use hbc_types::secret::Key32;
use hbc_types::wire::access::{Labels, Scope, Subject};
use hbc_types::{Digest, Timestamp, hash};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hbc_db::floors::{Floors, SetBackError};
use hbc_db::{Column, RowMac, RowMacError};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::domain::floors::{self, Change};
use crate::domain::grant::Grant;
use crate::domain::policy::Principal;
use crate::domain::root_claim::Claim;
use crate::domain::staff::{Membership, Record, Vote};

/// Bytes of a nonce.
const NONCE_BYTES: usize = 12;

/// A patient's pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Whose.
    pub patient: PatientId,
    /// The root public key; empty for the directory.
    pub root_public_key: Vec<u8>,
    /// Its SHA-256; all zero for the directory.
    pub root_fingerprint: Digest,
    /// Who holds the root key.
    pub custody: Custody,
    /// Grows with everything that changes rights.
    pub consent_version: u64,
    /// The epoch of new key-encryption keys.
    pub kek_epoch: u32,
    /// Since when everything is frozen.
    pub frozen_at: Option<Timestamp>,
    /// When it was pinned.
    pub pinned_at: Timestamp,
    /// The recovery key, which may name another root key as well as the root key itself.
    pub recovery: Option<PublicKey>,
    /// What brought the present keys; none for the first ones.
    pub change: Option<RootChange>,
}

/// What brought a patient's keys in the place of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootChange {
    /// The certificate, signed by one of the keys before; none: operators ordered it.
    pub certificate: Option<String>,
    /// When it was signed, or acted: later than the one before.
    pub signed_at: Timestamp,
}

impl Pin {
    /// When the certificate of these keys was signed (Unix ms); 0 for the first ones.
    #[must_use]
    pub fn root_signed_ms(&self) -> i64 {
        self.change.as_ref().map_or(0, |change| change.signed_at.ms())
    }
}

/// A pin with the patient's live grants, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The pin.
    pub pin: Pin,
    /// The live grants.
    pub grants: Vec<Grant>,
}

impl Rights {
    /// The grants that may cover `principal`, widest first, with a freeze of everything laid over them, as far as the scopes of
    /// an app's token reach.
    #[must_use]
    pub fn candidates(&self, principal: &Principal) -> Vec<Grant> {
        let mut grants: Vec<Grant> =
            self.grants.iter().filter(|grant| principal.is_covered_by(grant)).cloned().collect();
        let reached = principal.bound.as_ref().and_then(|bound| bound.categories.as_ref());
        for grant in &mut grants {
            grant.frozen_at = grant.frozen_at.or(self.pin.frozen_at);
            if let Some(reached) = reached {
                grant.scope.categories.retain(|category| reached.contains(category));
            }
        }
        grants.sort_by_key(|grant| (!grant.scope.future_records, std::cmp::Reverse(grant.given_at)));
        grants
    }

    fn text(&self) -> Vec<u8> {
        let Self { pin, grants } = self;
        let mut parts = pin_parts(pin);
        for grant in grants {
            parts.extend(grant_parts(grant));
        }
        let borrowed: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        hash::aad("hbc/rights/v1", &borrowed)
    }
}

fn time(at: Option<Timestamp>) -> Vec<u8> {
    at.map_or_else(Vec::new, |at| at.ms().to_be_bytes().to_vec())
}

fn text(text: Option<&str>) -> Vec<u8> {
    text.unwrap_or_default().as_bytes().to_vec()
}

fn digest(digest: Option<&Digest>) -> Vec<u8> {
    digest.map_or_else(Vec::new, |digest| digest.as_bytes().to_vec())
}

fn pin_parts(pin: &Pin) -> Vec<Vec<u8>> {
    let Pin {
        patient,
        root_public_key,
        root_fingerprint,
        custody,
        consent_version,
        kek_epoch,
        frozen_at,
        pinned_at,
        recovery,
        change,
    } = pin;
    let mut parts = vec![
        text(Some(patient.as_str())),
        root_public_key.clone(),
        digest(Some(root_fingerprint)),
        text(Some(custody.code())),
        consent_version.to_be_bytes().to_vec(),
        kek_epoch.to_be_bytes().to_vec(),
        time(*frozen_at),
        time(Some(*pinned_at)),
    ];
    // A pin has neither before its patient makes a recovery key, or another root key.
    parts.extend(recovery.as_ref().map(|key| [b"r".as_slice(), key.as_bytes()].concat()));
    if let Some(RootChange { certificate, signed_at }) = change {
        parts.extend([b"root-change".to_vec(), text(certificate.as_deref()), time(Some(*signed_at))]);
    }
    parts
}

fn grant_parts(grant: &Grant) -> Vec<Vec<u8>> {
    let Grant {
        id,
        patient,
        grantee,
        offline,
        device,
        request,
        scope,
        custody,
        given_at,
        draft_expires_at,
        kid,
        seq,
        txid,
        signed_at,
        numbers,
        final_height,
        // Both end a grant, and one that ended is outside the patient's MAC: setting them by hand takes a row away, which
        // shows. The ended row has a MAC of its own.
        refused: _,
        ended_at: _,
        frozen_at,
        revoked_at,
        revoked_by,
        altered_by,
    } = grant;
    let mut parts = vec![
        b"grant".to_vec(),
        text(Some(id.as_str())),
        text(Some(patient.as_str())),
        text(Some(grantee.as_str())),
        text(request.as_ref().map(AsRef::as_ref)),
        scope_text(scope),
        text(Some(custody.code())),
        time(Some(*given_at)),
        time(Some(*draft_expires_at)),
        digest(kid.as_ref()),
        seq.unwrap_or_default().to_be_bytes().to_vec(),
        digest(txid.as_ref()),
        time(*signed_at),
        numbers_text(numbers),
        final_height.map_or_else(Vec::new, |height| height.to_be_bytes().to_vec()),
        time(*frozen_at),
        time(*revoked_at),
        digest(revoked_by.as_ref()),
        digest(altered_by.as_ref()),
    ];
    // Grants to agencies have neither: their text is as it was before there were other grantees.
    parts.extend(offline.map(|offline| vec![b'o', u8::from(offline)]));
    parts.extend(device.as_ref().map(|device| digest(Some(device))));
    parts
}

/// A grant with what ended it.
fn ended_text(grant: &Grant) -> Vec<u8> {
    let mut parts = grant_parts(grant);
    parts.push(text(grant.refused.as_deref()));
    parts.push(time(grant.ended_at));
    let borrowed: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    hash::aad("hbc/ended-grant/v1", &borrowed)
}

fn staff_text(record: &Record) -> Vec<u8> {
    let Record { key, round, status, commitment, votes } = record;
    let mut parts = vec![
        digest(Some(key)),
        round.to_be_bytes().to_vec(),
        text(status.map(StaffStatus::code)),
        digest(commitment.as_ref()),
    ];
    for Vote { status, commitment, signer } in votes {
        parts.extend([text(Some(status)), digest(Some(commitment)), digest(Some(signer))]);
    }
    let borrowed: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    hash::aad("hbc/staff-row/v1", &borrowed)
}

fn membership_text(membership: &Membership) -> Vec<u8> {
    let Membership { organisation, key, count, status } = membership;
    let parts = [
        digest(Some(organisation)),
        digest(Some(key)),
        count.to_be_bytes().to_vec(),
        text(Some(status.code())),
    ];
    let borrowed: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    hash::aad("hbc/affiliation-row/v1", &borrowed)
}

/// The scope by its meaning, so that it does not matter how a JSON text was spaced.
fn scope_text(scope: &Scope) -> Vec<u8> {
    let Scope { actions, categories, sensitivities, purposes, from, until, future_records } = scope;
    let mut text = String::new();
    let lists = [
        actions.iter().map(|code| code.code()).collect::<Vec<_>>(),
        categories.iter().map(|code| code.code()).collect(),
        sensitivities.iter().map(|code| code.code()).collect(),
        purposes.iter().map(|code| code.code()).collect(),
    ];
    for list in lists {
        text.push_str(&list.join(","));
        text.push(';');
    }
    text.push_str(&format!("{};{};{future_records}", from.ms(), until.ms()));
    text.into_bytes()
}

/// `sensitivity/category=n` for each set, in their order: how limits are stored and covered.
#[must_use]
pub fn numbers_text(numbers: &std::collections::BTreeMap<Labels, u64>) -> Vec<u8> {
    let sets = numbers.iter().map(|(Labels { category, sensitivity }, n)| {
        format!("{}/{}={n}", sensitivity.code(), category.code())
    });
    sets.collect::<Vec<_>>().join(",").into_bytes()
}

/// An account as auth told of it, with a denial that auth sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Which account.
    pub id: AccountId,
    /// What auth says; the profile it sent along is not kept.
    pub subject: Subject,
    /// The commitment that the profile opened.
    pub commitment: Option<Digest>,
    /// Since when it is denied.
    pub denied_at: Option<Timestamp>,
    /// Until when; absent: until lifted.
    pub denied_until: Option<Timestamp>,
    /// Since when it is closed, for ever.
    pub closed_at: Option<Timestamp>,
    /// When the row last changed.
    pub updated_at: Timestamp,
}

impl Account {
    /// Whether a denial holds at `now`.
    #[must_use]
    pub fn is_denied(&self, now: Timestamp) -> bool {
        self.denied_at.is_some() && self.denied_until.is_none_or(|until| now < until)
    }

    /// When a change at `now` is written: later than every change before, so that no two look alike.
    #[must_use]
    pub fn next_change(&self, floors: &Floors, now: Timestamp) -> Timestamp {
        let last = self.updated_at.ms().max(floors::account(floors, &self.id));
        Timestamp::from_ms(now.ms().max(last.saturating_add(1)))
    }

    /// What auth has said of an account that it only denied so far.
    #[must_use]
    pub fn unknown(id: AccountId, at: Timestamp) -> Self {
        let subject = Subject {
            role: id.role(),
            standing: Standing::Suspended,
            agency_type: None,
            name: None,
            organisation: None,
            staff_key: None,
            profile: None,
            revision: 0,
        };
        Self {
            id,
            subject,
            commitment: None,
            denied_at: None,
            denied_until: None,
            closed_at: None,
            updated_at: at,
        }
    }

    fn text(&self) -> Vec<u8> {
        let Self { id, subject, commitment, denied_at, denied_until, closed_at, updated_at } = self;
        let Subject {
            role,
            standing,
            agency_type,
            name,
            organisation,
            staff_key,
            revision,
            // Never kept.
            profile: _,
        } = subject;
        let mut parts = vec![
            text(Some(id.as_str())),
            text(Some(role.code())),
            text(Some(standing.code())),
            text(agency_type.map(AgencyType::code)),
            // A name may be empty; absent it is not.
            vec![u8::from(name.is_some())],
            text(name.as_deref()),
            text(organisation.as_ref().map(AgencyId::as_str)),
            digest(staff_key.as_ref()),
            digest(commitment.as_ref()),
            revision.to_be_bytes().to_vec(),
            time(*denied_at),
            time(*denied_until),
            time(Some(*updated_at)),
        ];
        // The text of any other is as it was before accounts could be closed.
        parts.extend(closed_at.map(|at| time(Some(at))));
        let borrowed: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        hash::aad("hbc/account/v1", &borrowed)
    }
}

/// How many buckets of ended sessions there are.
pub const BUCKETS: u16 = 256;

/// The ended sessions of one bucket with the time until which each must be remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndedSessions {
    /// Which bucket.
    pub bucket: u16,
    /// Sessions and when they may be forgotten (Unix ms), in the order of their ids.
    pub sessions: std::collections::BTreeMap<SessionId, i64>,
}

/// A session that auth told of when it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSession {
    /// Its id.
    pub id: SessionId,
    /// Whose.
    pub account: AccountId,
    /// Since when.
    pub opened_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

impl OpenSession {
    fn columns(&self) -> [Column<'_>; 4] {
        let Self { id, account, opened_at, expires_at } = self;
        [id.as_str().into(), account.as_str().into(), opened_at.ms().into(), expires_at.ms().into()]
    }
}

impl EndedSessions {
    /// The bucket of a session: the first byte of its id.
    #[must_use]
    pub fn bucket_of(session: &SessionId) -> u16 {
        let digits = session.as_str().get(4..6).unwrap_or("00");
        u16::from_str_radix(digits, 16).unwrap_or(0)
    }

    /// Ends a session, and forgets those whose tokens have all expired.
    pub fn end(&mut self, session: SessionId, until: Timestamp, now: Timestamp) {
        self.sessions.retain(|_, until| *until > now.ms());
        let entry = self.sessions.entry(session).or_insert(0);
        *entry = (*entry).max(until.ms());
    }

    /// Whether `session` was ended.
    #[must_use]
    pub fn has_ended(&self, session: &SessionId) -> bool {
        self.sessions.contains_key(session)
    }

    /// What the MAC covers; `text` is [`EndedSessions::text`].
    fn columns<'a>(&self, text: &'a str) -> [Column<'a>; 2] {
        let Self { bucket, sessions: _in_the_text } = self;
        [Column::Integer(i64::from(*bucket)), Column::Text(text)]
    }

    /// The sessions as the database has them.
    #[must_use]
    pub fn text(&self) -> String {
        let entries = self.sessions.iter().map(|(session, until)| format!("{session}={until}"));
        entries.collect::<Vec<_>>().join(",")
    }

    /// Reads what [`EndedSessions::text`] wrote.
    #[must_use]
    pub fn parse(bucket: u16, text: &str) -> Option<Self> {
        let mut sessions = std::collections::BTreeMap::new();
        for entry in text.split(',').filter(|entry| !entry.is_empty()) {
            let (session, until) = entry.split_once('=')?;
            sessions.insert(SessionId::parse(session).ok()?, until.parse().ok()?);
        }
        Some(Self { bucket, sessions })
    }
}

/// An encrypted text does not open: it was changed, or belongs to another row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an encrypted text does not open")]
pub struct HiddenTextError;

/// MACs and checks the rows.
#[derive(Clone)]
pub struct RowProtection {
    macs: RowMac,
    texts: Aes256Gcm,
    floors: Floors,
}

impl std::fmt::Debug for RowProtection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RightsSeal(…)")
    }
}

impl RowProtection {
    /// With the key that stands outside the database.
    #[must_use]
    pub fn new(key: Key32) -> Self {
        Self::above(key, Floors::default())
    }

    /// With floors below which no right counts.
    #[must_use]
    pub fn above(key: Key32, floors: Floors) -> Self {
        let mut text_key = Zeroizing::new([0; 32]);
        #[expect(clippy::expect_used, reason = "32 bytes is one HKDF block")]
        Hkdf::<Sha256>::new(None, key.expose())
            .expand(b"hbc/row-text-key/v1", &mut *text_key)
            .expect("one block");
        Self { macs: RowMac::new(key), texts: Aes256Gcm::new((&*text_key).into()), floors }
    }

    /// Encrypts a text that may name people, for the row that `context` names: `nonce 12 ‖ ciphertext ‖ tag 16`. The
    /// nonce is a MAC of row and text, so that it never meets another text; the same text in the same row looks the
    /// same.
    #[must_use]
    pub fn hide(&self, context: &str, text: &str) -> Vec<u8> {
        let mac = self.macs.compute("text", &[Column::Text(context), Column::Text(text)]);
        let mut nonce = [0; NONCE_BYTES];
        for (to, from) in nonce.iter_mut().zip(mac) {
            *to = from;
        }
        let payload = Payload { msg: text.as_bytes(), aad: context.as_bytes() };
        #[expect(clippy::expect_used, reason = "GCM refuses only messages of gigabytes")]
        let encrypted =
            self.texts.encrypt(&Nonce::from(nonce), payload).expect("a short text can be encrypted");
        [nonce.as_slice(), &encrypted].concat()
    }

    /// Opens what [`RowProtection::hide`] encrypted for the same row.
    pub fn show(&self, context: &str, hidden: &[u8]) -> Result<String, HiddenTextError> {
        let (nonce, encrypted) = hidden.split_at_checked(NONCE_BYTES).ok_or(HiddenTextError)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_length| HiddenTextError)?;
        let payload = Payload { msg: encrypted, aad: context.as_bytes() };
        let text = self.texts.decrypt(&Nonce::from(nonce), payload).map_err(|_tag| HiddenTextError)?;
        String::from_utf8(text).map_err(|_not_ours| HiddenTextError)
    }

    /// Below which no right counts.
    #[must_use]
    pub const fn floors(&self) -> &Floors {
        &self.floors
    }

    /// Whether a session was ended, by its bucket or by the journal.
    #[must_use]
    pub fn has_ended(&self, ended: &EndedSessions, session: &SessionId) -> bool {
        ended.has_ended(session) || floors::has_ended(&self.floors, session)
    }

    /// Whether a patient's rights are those of the last change or of a later one: no older row was put back.
    pub fn check_age(&self, rights: &Rights) -> Result<(), SetBackError> {
        let written = Change::Rights(rights.pin.patient.clone(), rights.pin.consent_version);
        self.floors.check("patients", &written)
    }

    /// Whether a patient's keys are the last ones: none that others took the place of were put back.
    pub fn check_root_age(&self, pin: &Pin) -> Result<(), SetBackError> {
        self.floors.check("patients", &Change::Root(pin.patient.clone(), pin.root_signed_ms()))
    }

    /// The same of an account.
    pub fn check_account_age(&self, account: &Account) -> Result<(), SetBackError> {
        self.floors.check("subjects", &Change::Account(account.id.clone(), account.updated_at.ms()))
    }

    /// The MAC of a patient's rights.
    #[must_use]
    pub fn rights(&self, rights: &Rights) -> [u8; RowMac::BYTES] {
        self.macs.compute("patients", &[Column::Bytes(&rights.text())])
    }

    /// Checks the MAC of a patient's rights.
    pub fn check_rights(&self, rights: &Rights, mac: &[u8]) -> Result<(), RowMacError> {
        self.macs.check("patients", &[Column::Bytes(&rights.text())], mac)
    }

    /// The MAC of a grant that ended: with it the row says what it said then, and nothing brings it back but what the
    /// ledger says.
    #[must_use]
    pub fn ended_grant(&self, grant: &Grant) -> [u8; RowMac::BYTES] {
        self.macs.compute("grants", &[Column::Bytes(&ended_text(grant))])
    }

    /// Checks the MAC of a grant that ended.
    pub fn check_ended_grant(&self, grant: &Grant, mac: &[u8]) -> Result<(), RowMacError> {
        self.macs.check("grants", &[Column::Bytes(&ended_text(grant))], mac)
    }

    /// The MAC of a claim to a patient's root key.
    #[must_use]
    pub fn root_claim(&self, claim: &Claim) -> [u8; RowMac::BYTES] {
        self.macs.compute("root_claims", &[Column::Bytes(&claim.text())])
    }

    /// Checks the MAC of a claim to a patient's root key.
    pub fn check_root_claim(&self, claim: &Claim, mac: &[u8]) -> Result<(), RowMacError> {
        self.macs.check("root_claims", &[Column::Bytes(&claim.text())], mac)
    }

    /// The MAC of an account.
    #[must_use]
    pub fn account(&self, account: &Account) -> [u8; RowMac::BYTES] {
        self.macs.compute("subjects", &[Column::Bytes(&account.text())])
    }

    /// Whether an account was closed, as the journal knows, whatever its row says.
    #[must_use]
    pub fn is_closed(&self, account: &str) -> bool {
        floors::is_closed(&self.floors, account)
    }

    /// Checks the MAC of an account.
    pub fn check_account(&self, account: &Account, mac: &[u8]) -> Result<(), RowMacError> {
        self.macs.check("subjects", &[Column::Bytes(&account.text())], mac)
    }

    /// Whether a staff profile is as of the last change of it.
    pub fn check_staff_age(&self, record: &Record) -> Result<(), SetBackError> {
        self.floors.check("staff", &Change::Staff(record.key, record.round))
    }

    /// The MAC of a staff profile.
    #[must_use]
    pub fn staff(&self, record: &Record) -> [u8; RowMac::BYTES] {
        self.macs.compute("staff", &[Column::Bytes(&staff_text(record))])
    }

    /// Checks the MAC of a staff profile.
    pub fn check_staff(&self, record: &Record, mac: &[u8]) -> Result<(), RowMacError> {
        self.macs.check("staff", &[Column::Bytes(&staff_text(record))], mac)
    }

    /// Whether an affiliation is as of the last change of it.
    pub fn check_membership_age(&self, membership: &Membership) -> Result<(), SetBackError> {
        let Membership { organisation, key, count, status: _ } = membership;
        self.floors.check("affiliations", &Change::Affiliation(*organisation, *key, *count))
    }

    /// The MAC of an affiliation.
    #[must_use]
    pub fn membership(&self, membership: &Membership) -> [u8; RowMac::BYTES] {
        self.macs.compute("affiliations", &[Column::Bytes(&membership_text(membership))])
    }

    /// Checks the MAC of an affiliation.
    pub fn check_membership(&self, membership: &Membership, mac: &[u8]) -> Result<(), RowMacError> {
        self.macs.check("affiliations", &[Column::Bytes(&membership_text(membership))], mac)
    }

    /// The MAC of an open session.
    #[must_use]
    pub fn session(&self, session: &OpenSession) -> [u8; RowMac::BYTES] {
        self.macs.compute("sessions", &session.columns())
    }

    /// Checks the MAC of an open session.
    pub fn check_session(&self, session: &OpenSession, mac: &[u8]) -> Result<(), RowMacError> {
        self.macs.check("sessions", &session.columns(), mac)
    }

    /// The MAC of a bucket of ended sessions.
    #[must_use]
    pub fn sessions(&self, ended: &EndedSessions) -> [u8; RowMac::BYTES] {
        let text = ended.text();
        self.macs.compute("session_denials", &ended.columns(&text))
    }

    /// Checks the MAC of a bucket of ended sessions.
    pub fn check_sessions(&self, ended: &EndedSessions, mac: &[u8]) -> Result<(), RowMacError> {
        let text = ended.text();
        self.macs.check("session_denials", &ended.columns(&text), mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::grant::tests::active;
    use crate::domain::policy::SessionState;
    use hbc_types::Random;
    use hbc_types::ids::GranteeId;
    use hbc_types::labels::Category;

    fn rights() -> Rights {
        let grant = active();
        let pin = Pin {
            patient: grant.patient.clone(),
            root_public_key: vec![1; 32],
            root_fingerprint: Digest::of(&[1; 32]),
            custody: Custody::Server,
            consent_version: 3,
            kek_epoch: 1,
            frozen_at: None,
            pinned_at: Timestamp::from_ms(1),
            recovery: None,
            change: None,
        };
        Rights { pin, grants: vec![grant] }
    }

    #[test]
    fn every_change_to_a_rights_row_breaks_the_mac() {
        let protection = RowProtection::new(Key32::new([5; 32]));
        let mac = protection.rights(&rights());
        assert!(protection.check_rights(&rights(), &mac).is_ok());
        let changes: Vec<fn(&mut Rights)> = vec![
            |rights| rights.grants.clear(),
            |rights| rights.grants.push(active()),
            |rights| rights.pin.root_fingerprint = Digest::ZERO,
            |rights| rights.pin.root_public_key = vec![2; 32],
            |rights| rights.pin.consent_version += 1,
            |rights| rights.pin.kek_epoch += 1,
            |rights| rights.pin.custody = Custody::Client,
            |rights| rights.pin.recovery = Some(PublicKey::from_bytes([3; 32])),
            |rights| {
                let signed_at = Timestamp::from_ms(7);
                rights.pin.change = Some(RootChange { certificate: Some("c".to_owned()), signed_at });
            },
            |rights| rights.pin.frozen_at = Some(Timestamp::from_ms(5)),
            |rights| rights.grants[0].scope.future_records = false,
            |rights| rights.grants[0].scope.until = Timestamp::from_ms(2_000_000),
            |rights| rights.grants[0].scope.actions.push(hbc_types::purpose::Action::Write),
            |rights| rights.grants[0].grantee = GranteeId::Agency(AgencyId::random(&Random::seeded(99))),
            |rights| rights.grants[0].offline = Some(false),
            |rights| rights.grants[0].device = Some(Digest::ZERO),
            |rights| rights.grants[0].final_height = None,
            |rights| rights.grants[0].frozen_at = Some(Timestamp::from_ms(9)),
            |rights| rights.grants[0].given_at = Timestamp::from_ms(9),
            |rights| rights.grants[0].altered_by = Some(Digest::ZERO),
        ];
        for (nth, change) in changes.into_iter().enumerate() {
            let mut changed = rights();
            change(&mut changed);
            assert!(protection.check_rights(&changed, &mac).is_err(), "change {nth}");
        }
    }

    #[test]
    fn every_change_to_an_ended_grant_breaks_its_mac() {
        let protection = RowProtection::new(Key32::new([5; 32]));
        let mut grant = active();
        grant.revoke(Digest::of(b"by"), Timestamp::from_ms(9)).unwrap();
        let mac = protection.ended_grant(&grant);
        assert!(protection.check_ended_grant(&grant, &mac).is_ok());
        let changes: Vec<fn(&mut Grant)> = vec![
            |grant| grant.refused = Some("expired".to_owned()),
            |grant| grant.final_height = None,
            |grant| grant.revoked_at = None,
            |grant| grant.revoked_by = None,
            |grant| grant.ended_at = None,
            |grant| grant.ended_at = Some(Timestamp::from_ms(8)),
            |grant| grant.scope.until = Timestamp::from_ms(2_000_000),
        ];
        for (nth, change) in changes.into_iter().enumerate() {
            let mut changed = grant.clone();
            change(&mut changed);
            assert!(protection.check_ended_grant(&changed, &mac).is_err(), "change {nth}");
        }
        assert!(protection.check_ended_grant(&grant, b"").is_err());
    }

    #[test]
    fn the_mac_of_an_account_covers_that_it_is_closed() {
        let protection = RowProtection::new(Key32::new([5; 32]));
        let account = Account::unknown(AccountId::Patient(active().patient), Timestamp::from_ms(1));
        let closed = Account { closed_at: Some(Timestamp::from_ms(7)), ..account.clone() };
        let mac = protection.account(&closed);
        assert!(protection.check_account(&closed, &mac).is_ok());
        let later = Account { closed_at: Some(Timestamp::from_ms(8)), ..account.clone() };
        assert!(protection.check_account(&later, &mac).is_err());
        assert!(protection.check_account(&account, &mac).is_err());
        assert!(protection.check_account(&closed, &protection.account(&account)).is_err());
    }

    #[test]
    fn hidden_texts_open_only_in_their_row() {
        let protection = RowProtection::new(Key32::new([5; 32]));
        let hidden = protection.hide("agy-1", "Dr. Ada Example");
        assert_eq!(protection.show("agy-1", &hidden).as_deref(), Ok("Dr. Ada Example"));
        assert_eq!(protection.show("agy-2", &hidden), Err(HiddenTextError));
        assert_eq!(protection.show("agy-1", &hidden[1..]), Err(HiddenTextError));
        assert_eq!(protection.show("agy-1", b"short"), Err(HiddenTextError));
        assert_ne!(
            protection.hide("agy-1", "Dr. Ada Example")[..12],
            protection.hide("agy-1", "Dr. Bob Example")[..12]
        );
        assert!(!hidden.windows(3).any(|part| part == b"Ada"));
    }

    #[test]
    fn ended_sessions_are_remembered_until_their_tokens_died() {
        let random = Random::seeded(2);
        let (one, two) = (SessionId::random(&random), SessionId::random(&random));
        let mut ended = EndedSessions { bucket: EndedSessions::bucket_of(&one), ..EndedSessions::default() };
        ended.end(one.clone(), Timestamp::from_ms(100), Timestamp::from_ms(0));
        assert!(ended.has_ended(&one) && !ended.has_ended(&two));
        assert_eq!(EndedSessions::parse(ended.bucket, &ended.text()), Some(ended.clone()));
        ended.end(two.clone(), Timestamp::from_ms(300), Timestamp::from_ms(200));
        assert!(!ended.has_ended(&one) && ended.has_ended(&two));
        assert!(EndedSessions::parse(0, "ses-x=1").is_none());
    }

    #[test]
    fn a_freeze_of_everything_lies_over_each_candidate() {
        let mut rights = rights();
        rights.pin.frozen_at = Some(Timestamp::from_ms(50));
        let principal = Principal {
            account: AccountId::parse(rights.grants[0].grantee.as_str()).unwrap(),
            standing: Standing::Active,
            session: SessionState::Open,
            agency_type: Some(AgencyType::Doctor),
            organisation: None,
            organisation_type: None,
            bound: None,
            device_key: None,
        };
        assert_eq!(rights.candidates(&principal)[0].frozen_at, rights.pin.frozen_at);
    }

    #[test]
    fn the_scopes_of_a_token_narrow_what_a_grant_names() {
        let rights = rights();
        let reached = |categories: Option<Vec<Category>>| {
            let patient = rights.pin.patient.clone();
            let categories = categories.map(|all| all.into_iter().collect());
            let principal = Principal {
                account: AccountId::parse(rights.grants[0].grantee.as_str()).unwrap(),
                standing: Standing::Active,
                session: SessionState::Open,
                agency_type: None,
                organisation: None,
                organisation_type: None,
                bound: Some(crate::domain::policy::Bound { patient, offline: false, categories }),
                device_key: None,
            };
            rights.candidates(&principal)[0].scope.categories.clone()
        };
        let granted = rights.grants[0].scope.categories.clone();
        assert!(granted.len() > 1);
        assert_eq!(reached(None), granted);
        assert_eq!(reached(Some(vec![Category::Laboratory, Category::Condition])), [Category::Laboratory]);
        assert_eq!(reached(Some(Vec::new())), []);
    }
}
