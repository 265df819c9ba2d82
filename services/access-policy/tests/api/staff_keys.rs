//! An agency changes its staff key: its grants and memberships go on, and what the ended key signs counts for nothing.

use ed25519_dalek::SigningKey;
use hbc_chain::payload::{AffiliationStatus, Payload, StaffStatus};
use hbc_chain::testing::{AUTH, OPERATOR, key};
use hbc_chain::tx::{self, Tx};
use hbc_types::account::AgencyType;
use hbc_types::ids::AgencyId;
use hbc_types::keys::PublicKey;
use hbc_types::labels::Category;
use hbc_types::purpose::Purpose;
use hbc_types::wire::access::Subject;
use reqwest::Method;

use crate::world::{AgencyUser, World, labels, worlds};

/// The votes of auth and an operator about another key of the agency.
fn votes(
    w: &World,
    (agency, kind): (&AgencyUser, AgencyType),
    next: &SigningKey,
    change: (u64, StaffStatus),
) -> [String; 2] {
    let [vote, _] = w.votes(agency, kind, change);
    let Payload::Staff(mut staff) = Tx::parse(vote.as_bytes()).unwrap().payload().clone() else { panic!() };
    (staff.public, staff.key) = (PublicKey::of(next), PublicKey::of(next).kid());
    [AUTH, OPERATOR].map(|signer| tx::sign(&key(signer), &Payload::Staff(staff.clone())).unwrap())
}

/// What another key of the organisation signs about a member.
fn affiliation(
    w: &World,
    (organisation, member): (&AgencyId, &AgencyId),
    next: &SigningKey,
    (nonce, status): (u64, AffiliationStatus),
) -> String {
    let signed = w.affiliation(organisation, member, nonce, status);
    let Payload::Affiliation(mut change) = Tx::parse(signed.as_bytes()).unwrap().payload().clone() else {
        panic!()
    };
    change.organisation = PublicKey::of(next).kid();
    tx::sign(next, &Payload::Affiliation(change)).unwrap()
}

async fn put(w: &World, agency: &AgencyUser, told: &Subject) -> u16 {
    let path = format!("/internal/v1/subjects/{}", agency.user.account);
    w.auth(Method::PUT, &path, told).await.status
}

#[tokio::test]
async fn an_agency_is_active_under_whichever_key_is_on_the_chain_and_its_members_with_it() {
    for w in worlds().await {
        let (patient, kind) = (w.patient().await, AgencyType::Hospital);
        let written = w.write(&patient.user, &patient.id, &[labels(Category::Laboratory)]).await;
        let hospital = w.agency(kind).await;
        w.grant(&patient, &hospital, w.scope()).await;
        let doctor = w.agency(AgencyType::Doctor).await;
        let joined = w.told(&doctor, AgencyType::Doctor, Some(&hospital.id), 2);
        assert_eq!(put(&w, &doctor, &joined).await, 204);
        w.affiliate(&hospital.id, &doctor.id, 0, AffiliationStatus::Active).await;
        let read = async || {
            let own = w.read(&hospital.user, &written).await.keys.len();
            (own, w.read(&doctor.user, &written).await.keys.len())
        };
        assert_eq!(read().await, (1, 1));
        let next = SigningKey::from_bytes(&w.random.bytes());
        let told =
            Subject { staff_key: Some(PublicKey::of(&next).kid()), ..w.told(&hospital, kind, None, 2) };
        assert_eq!(put(&w, &hospital, &told).await, 409, "the ledger does not know that key");
        let [by_auth, by_operator] = votes(&w, (&hospital, kind), &next, (0, StaffStatus::Active));
        w.finalise(&[&by_operator]).await;
        assert_eq!(put(&w, &hospital, &told).await, 409, "not enough have signed");
        w.finalise(&[&by_auth]).await;
        assert_eq!(read().await, (1, 1));
        // The end of the first key comes before auth tells of the second: the agency is active, its member is none.
        let [_, end] = w.votes(&hospital, kind, (1, StaffStatus::Revoked));
        let block = w.finalise(&[&end]).await;
        assert_eq!(read().await, (1, 0));
        let late = w.affiliation(&hospital.id, &doctor.id, 1, AffiliationStatus::Active);
        w.finalise(&[&late]).await;
        assert_eq!(read().await, (1, 0), "what the ended key signs counts for nothing");
        let pair = (&hospital.id, &doctor.id);
        w.finalise(&[&affiliation(&w, pair, &next, (0, AffiliationStatus::Active))]).await;
        assert_eq!(read().await, (1, 1));
        assert_eq!(put(&w, &hospital, &told).await, 204);
        assert_eq!(read().await, (1, 1));
        w.finalise(&[&affiliation(&w, pair, &next, (1, AffiliationStatus::Ended))]).await;
        assert_eq!(read().await, (1, 0));
        assert_eq!(hbc_access_policy::testing::audit_block(&w.app, &block).await.unwrap(), 0);

        // One suspension of either key stops it, whatever auth tells.
        let third = SigningKey::from_bytes(&w.random.bytes());
        let [by_auth, by_operator] = votes(&w, (&hospital, kind), &third, (0, StaffStatus::Active));
        w.finalise(&[&by_auth, &by_operator]).await;
        let [_, stop] = votes(&w, (&hospital, kind), &next, (1, StaffStatus::Suspended));
        w.finalise(&[&stop]).await;
        let again = Subject { staff_key: Some(PublicKey::of(&third).kid()), revision: 3, ..told };
        assert_eq!(put(&w, &hospital, &again).await, 204);
        let refused = w.try_read(&hospital.user, &written, Purpose::Treatment).await;
        assert_eq!(refused.problem(), "403 suspended");
        // Nor does a row that is set back.
        w.by_hand("UPDATE staff SET status = 'active', round = 1 WHERE status = 'suspended'").await;
        let refused = w.try_read(&hospital.user, &written, Purpose::Treatment).await;
        assert_eq!(refused.problem(), "403 denied integrity");
    }
}
