//! Who is an agency or an app in good standing: not who auth says, but who operators approved on the ledger. This service follows the
//! chain itself and counts their votes; what auth tells opens the commitment that they voted for, or counts for nothing.
//!
//! Operators and keys of auth are those of the founding document. A vote of one who came later is not counted: then an
//! agency stays unverified here.
//!
//! Why: decision 0114; who acts for an organisation: decision 0116; several keys of one agency: decision 0133.

use std::collections::BTreeSet;

use hbc_chain::bodies::{AppRegistration, Body as _, OrderBody};
use hbc_chain::genesis::Genesis;
use hbc_chain::json;
use hbc_chain::payload::{Affiliation, AffiliationStatus, Order, OrderKind, Staff, StaffStatus};
use hbc_types::account::{Role, ServiceRole, Standing};
use hbc_types::ids::AccountId;
use hbc_types::wire::access::{StaffBody, Subject};
use hbc_types::wire::auth::StaffProfile;
use hbc_types::{Digest, hash};
use serde::{Deserialize, Serialize};

/// Whose votes make a profile.
#[derive(Clone, Debug)]
pub struct Approvers {
    auth: BTreeSet<Digest>,
    operators: BTreeSet<Digest>,
    approvals: usize,
}

impl Approvers {
    /// Those of the founding document.
    #[must_use]
    pub fn of(genesis: &Genesis) -> Self {
        Self {
            auth: genesis.service_keys(ServiceRole::Auth).map(|key| key.kid()).collect(),
            operators: genesis.operators.iter().map(|operator| operator.key.kid()).collect(),
            approvals: usize::try_from(genesis.parameters.approvals).unwrap_or(usize::MAX),
        }
    }

    /// FORMATS §5: for `active` an auth key and enough operators, otherwise one operator.
    fn suffice(&self, status: StaffStatus, signers: &BTreeSet<Digest>) -> bool {
        let operators = signers.intersection(&self.operators).count();
        match status {
            StaffStatus::Active => operators >= self.approvals && !signers.is_disjoint(&self.auth),
            StaffStatus::Suspended | StaffStatus::Revoked => operators > 0,
        }
    }
}

/// A vote of the round under way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// For what.
    pub status: String,
    /// With which commitment.
    pub commitment: Digest,
    /// Of whom.
    pub signer: Digest,
}

/// A staff profile, or the registration of an app, as final blocks made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Kid of the staff key; of an app the subject of the orders about it.
    pub key: Digest,
    /// Changes that took effect.
    pub round: u64,
    /// How it stands; nothing before the first.
    pub status: Option<StaffStatus>,
    /// Its commitment.
    pub commitment: Option<Digest>,
    /// The votes of this round.
    pub votes: BTreeSet<Vote>,
}

impl Record {
    /// Of a key that nobody voted for yet.
    #[must_use]
    pub const fn new(key: Digest) -> Self {
        Self { key, round: 0, status: None, commitment: None, votes: BTreeSet::new() }
    }

    /// Counts a final vote; says whether that was news.
    pub fn take(&mut self, change: &Staff, signer: Digest, approvers: &Approvers) -> bool {
        // Who is voted about is the key; the rest is for people to read.
        let Staff { commitment, key, nonce, status, chain: _, iat: _, organisation: _, public: _, role: _ } =
            change;
        if *key != self.key || *nonce != self.round || self.status == Some(StaffStatus::Revoked) {
            return false;
        }
        let vote = Vote { status: status.code().to_owned(), commitment: *commitment, signer };
        if !self.votes.insert(vote) {
            return false;
        }
        let same = |vote: &&Vote| vote.status == status.code() && vote.commitment == *commitment;
        let signers = self.votes.iter().filter(same).map(|vote| vote.signer).collect();
        if approvers.suffice(*status, &signers) {
            self.round += 1;
            self.status = Some(*status);
            self.commitment = Some(*commitment);
            self.votes.clear();
        }
        true
    }
}

impl Record {
    /// Counts a final order about an app or a root key, which are known by their order's subject; says whether that was news. One that was ended
    /// does not come back: another registration is another app.
    pub fn take_order(&mut self, order: &Order, signer: Digest, approvers: &Approvers) -> bool {
        let Order { commitment, kind, nonce, subject, chain: _, iat: _ } = order;
        let status = match kind {
            OrderKind::AppRegistered | OrderKind::RootReplaced => StaffStatus::Active,
            OrderKind::AppEnded => StaffStatus::Revoked,
            OrderKind::MisuseLifted | OrderKind::RestoreLifted => return false,
        };
        let is_over = self.status == Some(StaffStatus::Revoked) || self.status == Some(status);
        if *subject != self.key || *nonce != 0 || is_over || !approvers.operators.contains(&signer) {
            return false;
        }
        let vote = Vote { status: status.code().to_owned(), commitment: *commitment, signer };
        if !self.votes.insert(vote) {
            return false;
        }
        let same = |vote: &&Vote| vote.status == status.code() && vote.commitment == *commitment;
        // One operator ends it, with whatever reason: as one stops an agency.
        if status == StaffStatus::Revoked || self.votes.iter().filter(same).count() >= approvers.approvals {
            self.round += 1;
            self.status = Some(status);
            if status == StaffStatus::Active {
                self.commitment = Some(*commitment);
            }
            self.votes.retain(|vote| vote.status != status.code());
        }
        true
    }
}

/// Whether somebody acts for an organisation, as final blocks made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Kid of the organisation's staff key.
    pub organisation: Digest,
    /// Kid of the person's staff key.
    pub key: Digest,
    /// Changes so far.
    pub count: u64,
    /// Whether they do.
    pub status: AffiliationStatus,
}

impl Membership {
    /// What a final change makes of it; nothing if it was counted before. That the organisation signed, or who ends it one
    /// of the two, is a rule of the ledger (FORMATS §5).
    #[must_use]
    pub fn after(known: Option<&Self>, change: &Affiliation) -> Option<Self> {
        let Affiliation { key, nonce, organisation, status, chain: _, commitment: _, iat: _ } = change;
        let count = known.map_or(0, |known| known.count);
        let (organisation, key, status) = (*organisation, *key, *status);
        (*nonce == count).then_some(Self { organisation, key, count: count + 1, status })
    }
}

/// What auth says of an agency contradicts the profile that it sends along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProfileError(&'static str);

/// The commitment that a profile, or the order that registered an app, opens, if it says of the account what `subject` says.
pub fn open(id: &AccountId, subject: &Subject, profile: &StaffProfile) -> Result<Digest, ProfileError> {
    let salt = profile.salt.to_array::<32>().ok_or(ProfileError("needs a salt of 32 bytes"))?;
    if let AccountId::App(app) = id {
        let order = OrderBody::read(profile.body.as_bytes()).map_err(ProfileError)?;
        let registration =
            AppRegistration::of_order(&order).ok_or(ProfileError("is no order that registers an app"))?;
        let same = registration.app == *app
            && subject.staff_key == Some(order.subject)
            && subject.name.as_deref() == Some(registration.name.as_str());
        return if same {
            Ok(hash::order(&salt, profile.body.as_bytes()))
        } else {
            Err(ProfileError("is of somebody else, or says something else"))
        };
    }
    let body = json::decode::<StaffBody>(profile.body.as_bytes())
        .map_err(|_form| ProfileError("is no body of a staff profile"))?;
    let StaffBody { agency, agency_type, licence_number: _, name } = body;
    let same = *id == AccountId::Agency(agency)
        && subject.agency_type == Some(agency_type)
        && subject.name.as_deref() == Some(name.as_str());
    if same {
        Ok(hash::staff(&salt, profile.body.as_bytes()))
    } else {
        Err(ProfileError("is of somebody else, or says something else"))
    }
}

/// How an account stands: an agency and an app as auth says *and* the ledger says of the commitment that was opened. An agency
/// may have several keys one after the other, whose profiles open alike: it stands as the one that is active, and one
/// suspension stops it whichever key that is about. `profiles` are those, and that of the key that auth tells of.
#[must_use]
pub fn standing(subject: &Subject, commitment: Option<Digest>, profiles: &[Record]) -> Standing {
    let is_proven = match subject.role {
        Role::Agency | Role::App => true,
        Role::Patient | Role::Operator | Role::Device => false,
    };
    if !is_proven || subject.standing != Standing::Active {
        return subject.standing;
    }
    let told = profiles.iter().find(|record| Some(record.key) == subject.staff_key);
    let Some(told) = told.and_then(|record| record.status) else { return Standing::Pending };
    if profiles.iter().any(|record| record.status == Some(StaffStatus::Suspended)) {
        return Standing::Suspended;
    }
    if live_keys(commitment, profiles).next().is_some() {
        return Standing::Active;
    }
    match told {
        StaffStatus::Active => Standing::Pending,
        StaffStatus::Suspended | StaffStatus::Revoked => Standing::Suspended,
    }
}

/// The keys whose profiles are active and open to `commitment`.
pub fn live_keys(commitment: Option<Digest>, profiles: &[Record]) -> impl Iterator<Item = Digest> {
    let live = profiles.iter().filter(move |record| {
        record.status == Some(StaffStatus::Active)
            && record.commitment.is_some()
            && record.commitment == commitment
    });
    live.map(|record| record.key)
}

/// Whether somebody acts for an organisation, by what was signed between the keys that both have now: one of the pairs says
/// so, and in none it was ended. What a key signed that is ended counts for nothing.
#[must_use]
pub fn acts(found: &[Membership]) -> bool {
    let is = |status| move |membership: &Membership| membership.status == status;
    found.iter().any(is(AffiliationStatus::Active)) && !found.iter().any(is(AffiliationStatus::Ended))
}

#[cfg(test)]
mod tests {
    use hbc_chain::testing::{AUTH, OPERATOR, STORAGE, key, quick_genesis};
    use hbc_types::account::AgencyType;
    use hbc_types::ids::{AgencyId, AppId};
    use hbc_types::keys::PublicKey;

    use super::*;

    fn change(nonce: u64, status: StaffStatus, commitment: &[u8]) -> Staff {
        let public = PublicKey::of(&key(77));
        Staff {
            chain: Digest::ZERO,
            commitment: Digest::of(commitment),
            iat: 0,
            key: public.kid(),
            nonce,
            organisation: String::new(),
            public,
            role: "doctor".to_owned(),
            status,
        }
    }

    fn kid(seed: u8) -> Digest {
        PublicKey::of(&key(seed)).kid()
    }

    #[test]
    fn auth_and_enough_operators_make_a_profile_and_one_operator_stops_it() {
        let mut genesis = quick_genesis(1);
        genesis.parameters.approvals = 2;
        let approvers = Approvers::of(&genesis);
        let mut record = Record::new(kid(77));
        let active = change(0, StaffStatus::Active, b"a");
        for signer in [AUTH, OPERATOR, STORAGE, 78] {
            assert!(record.take(&active, kid(signer), &approvers));
            assert!(!record.take(&active, kid(signer), &approvers), "the same once more");
        }
        record.take(&change(0, StaffStatus::Active, b"b"), kid(OPERATOR + 1), &approvers);
        assert_eq!((record.status, record.round), (None, 0), "an operator voted for another");
        record.take(&active, kid(OPERATOR + 1), &approvers);
        assert_eq!((record.status, record.commitment), (Some(StaffStatus::Active), Some(Digest::of(b"a"))));
        assert!(!record.take(&active, kid(79), &approvers), "that round is over");
        let stop = change(1, StaffStatus::Suspended, b"a");
        record.take(&stop, kid(AUTH), &approvers);
        assert_eq!(record.status, Some(StaffStatus::Active));
        record.take(&stop, kid(OPERATOR), &approvers);
        assert_eq!((record.status, record.round), (Some(StaffStatus::Suspended), 2));
        record.take(&change(2, StaffStatus::Revoked, b"a"), kid(OPERATOR), &approvers);
        assert!(!record.take(&change(3, StaffStatus::Active, b"a"), kid(OPERATOR), &approvers));
    }

    #[test]
    fn enough_operators_register_an_app_and_one_ends_it_for_ever() {
        let mut genesis = quick_genesis(1);
        genesis.parameters.approvals = 2;
        let operators = [kid(OPERATOR), kid(OPERATOR + 1)];
        let mut approvers = Approvers::of(&genesis);
        approvers.operators.extend(operators);
        let order = |kind, commitment: &[u8]| Order {
            chain: Digest::ZERO,
            commitment: Digest::of(commitment),
            iat: 0,
            kind,
            nonce: 0,
            subject: kid(77),
        };
        let mut record = Record::new(kid(77));
        let registered = order(OrderKind::AppRegistered, b"a");
        assert!(!record.take_order(&registered, kid(AUTH), &approvers), "auth is no operator");
        assert!(record.take_order(&registered, operators[0], &approvers));
        assert!(!record.take_order(&registered, operators[0], &approvers), "the same once more");
        record.take_order(&order(OrderKind::AppRegistered, b"b"), operators[1], &approvers);
        assert_eq!(record.status, None, "the other signed for something else");
        assert!(record.take_order(&registered, operators[1], &approvers));
        assert_eq!((record.status, record.commitment), (Some(StaffStatus::Active), Some(Digest::of(b"a"))));
        assert!(record.take_order(&order(OrderKind::AppEnded, b"why"), operators[1], &approvers));
        assert_eq!(record.status, Some(StaffStatus::Revoked));
        assert!(
            !record.take_order(&registered, operators[1], &approvers),
            "another registration is another app"
        );
    }

    #[test]
    fn who_was_dismissed_under_one_of_two_keys_does_not_act() {
        let under = |key, status| Membership { organisation: kid(key), key: kid(77), count: 1, status };
        let (active, ended) = (AffiliationStatus::Active, AffiliationStatus::Ended);
        assert!(!acts(&[]) && acts(&[under(1, active)]) && acts(&[under(1, active), under(2, active)]));
        assert!(!acts(&[under(1, ended)]) && !acts(&[under(1, active), under(2, ended)]));
    }

    #[test]
    fn an_apps_order_opens_with_its_keys_or_their_address_and_not_with_both() {
        let app = AppId::parse(&format!("app-{:032x}", 1)).unwrap();
        let opens = |jwks: Option<Digest>, jwks_uri: Option<&str>| {
            let registration = AppRegistration {
                app: app.clone(),
                jwks,
                jwks_uri: jwks_uri.map(str::to_owned),
                name: "Diary".to_owned(),
                publisher: "Example Ltd.".to_owned(),
                redirect_uris: vec!["https://app.example/back".to_owned()],
                scope: "patient/*.rs".to_owned(),
            };
            let order = registration.order().unwrap();
            let subject = Subject {
                role: Role::App,
                standing: Standing::Active,
                agency_type: None,
                name: Some("Diary".to_owned()),
                organisation: None,
                staff_key: Some(order.subject),
                profile: None,
                revision: 1,
            };
            let body = String::from_utf8(json::encode(&order).unwrap()).unwrap();
            let profile = StaffProfile { body: body.clone(), salt: [7; 32].as_slice().into() };
            let opened = open(&AccountId::App(app.clone()), &subject, &profile).ok();
            opened.inspect(|commitment| assert_eq!(*commitment, hash::order(&[7; 32], body.as_bytes())))
        };
        let address = |path: &str| opens(None, Some(&format!("https://app.example/{path}")));
        let ways = [opens(None, None), opens(Some(Digest::ZERO), None), address("jwks"), address("other")];
        let commitments: BTreeSet<_> = ways.iter().map(|way| way.unwrap()).collect();
        assert_eq!(commitments.len(), ways.len(), "each is another app");
        assert_eq!(opens(Some(Digest::ZERO), Some("https://app.example/jwks")), None);
    }

    #[test]
    fn standing_is_what_both_say() {
        let id = AgencyId::parse(&format!("agy-{:032x}", 1)).unwrap();
        let body = StaffBody {
            agency: id.clone(),
            agency_type: AgencyType::Doctor,
            licence_number: "L-1".to_owned(),
            name: "Dr. Example".to_owned(),
        };
        let profile = StaffProfile {
            body: String::from_utf8(json::encode(&body).unwrap()).unwrap(),
            salt: [7; 32].as_slice().into(),
        };
        let account = AccountId::Agency(id);
        let subject = Subject {
            role: Role::Agency,
            standing: Standing::Active,
            agency_type: Some(AgencyType::Doctor),
            name: Some("Dr. Example".to_owned()),
            organisation: None,
            staff_key: Some(kid(77)),
            profile: None,
            revision: 1,
        };
        let commitment = open(&account, &subject, &profile).unwrap();
        let said: [fn(&mut Subject); 2] = [
            |subject| subject.name = Some("Dr. Nobody".to_owned()),
            |subject| subject.agency_type = Some(AgencyType::Hospital),
        ];
        for change in said {
            let mut other = subject.clone();
            change(&mut other);
            assert!(open(&account, &other, &profile).is_err());
        }
        let record = |status, commitment| Record { round: 1, status, commitment, ..Record::new(kid(77)) };
        let of = |record: Option<Record>| standing(&subject, Some(commitment), record.as_slice());
        assert_eq!(of(None), Standing::Pending);
        assert_eq!(of(Some(record(None, None))), Standing::Pending);
        assert_eq!(of(Some(record(Some(StaffStatus::Active), Some(Digest::ZERO)))), Standing::Pending);
        assert_eq!(of(Some(record(Some(StaffStatus::Active), Some(commitment)))), Standing::Active);
        assert_eq!(of(Some(record(Some(StaffStatus::Suspended), Some(commitment)))), Standing::Suspended);
        // Another key of the same agency, before and after the first one is ended.
        let other = |status| Record {
            round: 1,
            status: Some(status),
            commitment: Some(commitment),
            ..Record::new(kid(78))
        };
        let both = |one, two| {
            standing(&subject, Some(commitment), &[record(Some(one), Some(commitment)), other(two)])
        };
        assert_eq!(both(StaffStatus::Active, StaffStatus::Active), Standing::Active);
        assert_eq!(both(StaffStatus::Revoked, StaffStatus::Active), Standing::Active);
        assert_eq!(both(StaffStatus::Active, StaffStatus::Revoked), Standing::Active);
        assert_eq!(both(StaffStatus::Suspended, StaffStatus::Active), Standing::Suspended);
        assert_eq!(both(StaffStatus::Active, StaffStatus::Suspended), Standing::Suspended);
        assert_eq!(both(StaffStatus::Revoked, StaffStatus::Revoked), Standing::Suspended);
        let only_other = standing(&subject, Some(commitment), &[other(StaffStatus::Active)]);
        assert_eq!(only_other, Standing::Pending, "a row that is gone gives nothing");
        let active = record(Some(StaffStatus::Active), None);
        assert_eq!(standing(&subject, None, &[active]), Standing::Pending, "nothing opens nothing");
        let suspended = Subject { standing: Standing::Suspended, ..subject };
        let active = record(Some(StaffStatus::Active), Some(commitment));
        assert_eq!(standing(&suspended, Some(commitment), &[active]), Standing::Suspended);
    }
}
