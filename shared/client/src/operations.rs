//! Every operation with its method, path and answer, by its id in `openapi/`: the only place in HBC that knows them beside
//! the routes themselves. A contract test compares this table with the descriptions.

use std::fmt::Display;
use std::marker::PhantomData;

use hbc_types::wire::Page;
use hbc_types::wire::access::{
    AccessPage, AccessRequestPage, AccessRequestView, Admission, ConsentVersion, DataKeys, DecisionAnswer,
    Explanation, FreezeView, GrantDraft, GrantPage, GrantView, RootView, Unwrapped,
};
use hbc_types::wire::apps::{AppAccesses, AppView, Apps, AuthorizationStep, AuthorizationView};
use hbc_types::wire::auth::{
    AgencyCreated, AgencyView, ConsentKeyRegistered, ConsentSignature, Denial, Me, MemberView,
    PatientCreated, RecoveryCodes, RevocationSignature, Sessions, StaffKeyAsked, SteppedUp, Tokens,
    TotpPrepared, UnfreezeSignature,
};
use hbc_types::wire::custody::{CustodyChanged, RootClaim, RootClaims, RootWraps};
use hbc_types::wire::devices::{
    DevicePairings, DeviceRegistered, PairedDevice, PairedDevices, PairingClaimed, PairingCode, PairingEnded,
};
use hbc_types::wire::explorer::{
    BlockDetails, BlockSummary, ChangeView, NetworkView, NodesView, TransactionSummary, VotesView,
    WaitingSummary,
};
use hbc_types::wire::ledger::{
    AddressesView, BatchAnswer, BlockView, BlocksView, ChallengeAnswer, GrantStateView, KeyView, MembersView,
    NodeStatus, Promise, StaffView, TransactionView,
};
use hbc_types::wire::oauth::{AuthorizationServer, ClientView, Clients, Introspection, TokenResponse};
use hbc_types::wire::passkeys::{PasskeyCreation, PasskeyRequest, PasskeyView, Passkeys};
use hbc_types::wire::preferences::Preferences;
use hbc_types::wire::storage::{RecordCreated, RecordPage, RecordView};
use hbc_types::wire::token::Jwks;
use reqwest::Method;

/// The answer is no JSON of ours: a document to be kept as it is, FHIR, a file.
#[derive(Clone, Copy, Debug)]
pub struct Raw;

/// An operation with its parameters filled in. `A` is what a success answers.
#[derive(Debug)]
#[must_use]
pub struct Route<A> {
    /// The method.
    pub method: Method,
    /// The path, and the query if there is one.
    pub path: String,
    answer: PhantomData<fn() -> A>,
}

impl Route<Raw> {
    pub(crate) fn raw(method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), answer: PhantomData }
    }
}

// By hand: the answer need not be clonable.
impl<A> Clone for Route<A> {
    fn clone(&self) -> Self {
        Self { method: self.method.clone(), path: self.path.clone(), answer: PhantomData }
    }
}

impl<A> Route<A> {
    /// The same with `query` (`name=value&…`, percent-encoded where needed).
    pub fn with(mut self, query: impl Display) -> Self {
        self.path = format!("{}?{query}", self.path);
        self
    }
}

/// An operation as the table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: &'static str,
    /// Its method.
    pub method: &'static str,
    /// Its path, with parameters in braces.
    pub path: &'static str,
}

macro_rules! operations {
    ($($(#[doc = $doc:literal])* $module:ident {
        $($id:ident($($parameter:ident),*) = $method:ident $path:literal -> $answer:ty;)+
    })+) => {$(
        $(#[doc = $doc])*
        pub mod $module {
            #![allow(clippy::needless_pass_by_value, reason = "so that callers need not borrow what they name")]
            #[allow(clippy::wildcard_imports, reason = "the answers of one service are among those of all")]
            use super::*;

            /// Every operation.
            pub const ALL: &[Entry] = &[
                $(Entry { id: stringify!($id), method: stringify!($method), path: $path }),+
            ];

            $(
                #[doc = concat!("`", stringify!($method), " ", $path, "`")]
                pub fn $id($($parameter: impl Display),*) -> Route<$answer> {
                    Route { method: Method::$method, path: format!($path), answer: PhantomData }
                }
            )+
        }
    )+};
}

operations! {
    /// auth's operations.
    auth {
        introspect_token() = POST "/oauth/introspect" -> Introspection;
        grant_token() = POST "/oauth/token" -> TokenResponse;
        revoke_token() = POST "/oauth/revoke" -> ();
        show_jwks() = GET "/.well-known/jwks.json" -> Jwks;
        show_authorization_server() = GET "/.well-known/oauth-authorization-server" -> AuthorizationServer;
        show_smart_configuration() = GET "/.well-known/smart-configuration" -> AuthorizationServer;
        list_clients() = GET "/v1/me/clients" -> Clients;
        register_client() = POST "/v1/me/clients" -> ClientView;
        remove_client(id) = DELETE "/v1/me/clients/{id}" -> Denial;
        set_client_keys(id) = PUT "/v1/me/clients/{id}/jwks" -> ClientView;
        list_apps() = GET "/v1/apps" -> Apps;
        register_app() = POST "/v1/apps" -> AppView;
        show_app(id) = GET "/v1/apps/{id}" -> AppView;
        approve_app(id) = POST "/v1/apps/{id}/approvals" -> AppView;
        end_app(id) = POST "/v1/apps/{id}/endings" -> Denial;
        ask_authorization() = POST "/v1/authorizations" -> AuthorizationStep;
        show_authorization(id) = GET "/v1/authorizations/{id}" -> AuthorizationView;
        decide_authorization(id) = POST "/v1/authorizations/{id}/decision" -> AuthorizationStep;
        list_own_apps() = GET "/v1/me/apps" -> AppAccesses;
        send_app_away(id) = DELETE "/v1/me/apps/{id}" -> Denial;
        register_device() = POST "/v1/devices" -> DeviceRegistered;
        claim_pairing() = POST "/v1/pairing-claims" -> PairingClaimed;
        list_device_pairings() = POST "/v1/device-pairings" -> DevicePairings;
        make_pairing_code() = POST "/v1/me/pairing-codes" -> PairingCode;
        show_pairing_code(id) = GET "/v1/me/pairing-codes/{id}" -> PairingCode;
        end_pairing_code(id) = DELETE "/v1/me/pairing-codes/{id}" -> ();
        confirm_pairing(id) = POST "/v1/me/pairing-codes/{id}/confirmation" -> PairedDevice;
        list_devices() = GET "/v1/me/devices" -> PairedDevices;
        remove_device(id) = DELETE "/v1/me/devices/{id}" -> PairingEnded;
        list_agencies() = GET "/v1/agencies" -> Page<AgencyView>;
        sign_up_agency() = POST "/v1/agencies" -> AgencyCreated;
        show_agency(id) = GET "/v1/agencies/{id}" -> AgencyView;
        approve_agency(id) = POST "/v1/agencies/{id}/approvals" -> AgencyView;
        reject_agency(id) = POST "/v1/agencies/{id}/rejections" -> AgencyView;
        reinstate_agency(id) = POST "/v1/agencies/{id}/reinstatements" -> AgencyView;
        suspend_agency(id) = POST "/v1/agencies/{id}/suspensions" -> Denial;
        revoke_agency(id) = POST "/v1/agencies/{id}/revocations" -> Denial;
        approve_staff_key(id) = POST "/v1/agencies/{id}/key-approvals" -> AgencyView;
        ask_staff_key() = POST "/v1/me/staff-keys" -> StaffKeyAsked;
        withdraw_staff_key() = DELETE "/v1/me/staff-keys" -> AgencyView;
        show_me() = GET "/v1/me" -> Me;
        close_account() = POST "/v1/me/closure" -> Denial;
        register_consent_key() = POST "/v1/me/consent-keys" -> ConsentKeyRegistered;
        sign_consent() = POST "/v1/me/consent-signatures" -> ConsentSignature;
        set_contact() = PUT "/v1/me/contact" -> Me;
        show_preferences() = GET "/v1/me/preferences" -> Preferences;
        set_preferences() = PUT "/v1/me/preferences" -> Preferences;
        set_password() = PUT "/v1/me/password" -> ();
        renew_recovery_codes() = POST "/v1/me/recovery-codes" -> RecoveryCodes;
        sign_revocation() = POST "/v1/me/revocation-signatures" -> RevocationSignature;
        list_members() = GET "/v1/me/members" -> Page<MemberView>;
        take_in_member(id) = PUT "/v1/me/members/{id}" -> MemberView;
        dismiss_member(id) = DELETE "/v1/me/members/{id}" -> MemberView;
        leave_organisation() = DELETE "/v1/me/organisation" -> MemberView;
        list_passkeys() = GET "/v1/me/passkeys" -> Passkeys;
        register_passkey() = POST "/v1/me/passkeys" -> PasskeyView;
        remove_passkey(id) = DELETE "/v1/me/passkeys/{id}" -> Denial;
        put_root_wrap(id) = PUT "/v1/me/passkeys/{id}/root-wrap" -> ();
        list_root_wraps() = GET "/v1/me/root-wraps" -> RootWraps;
        set_custody() = PUT "/v1/me/custody" -> CustodyChanged;
        claim_root() = PUT "/v1/me/root-claim" -> RootClaim;
        show_root_claim() = GET "/v1/me/root-claim" -> RootClaim;
        withdraw_root_claim() = DELETE "/v1/me/root-claim" -> Denial;
        list_root_claims() = GET "/v1/root-claims" -> RootClaims;
        approve_root_claim(id) = POST "/v1/root-claims/{id}/approvals" -> RootClaim;
        prepare_passkey() = POST "/v1/me/passkey-challenges" -> PasskeyCreation;
        prepare_passkey_log_in() = POST "/v1/passkey-challenges" -> PasskeyRequest;
        prepare_passkey_step_up() = POST "/v1/sessions/current/passkey-challenges" -> PasskeyRequest;
        step_up_with_passkey() = POST "/v1/sessions/current/step-up/passkey" -> SteppedUp;
        log_in_with_passkey() = POST "/v1/sessions/passkey" -> Tokens;
        confirm_totp() = PUT "/v1/me/totp" -> ();
        prepare_totp() = POST "/v1/me/totp" -> TotpPrepared;
        remove_totp() = DELETE "/v1/me/totp" -> ();
        sign_unfreeze() = POST "/v1/me/unfreeze-signatures" -> UnfreezeSignature;
        sign_up_patient() = POST "/v1/patients" -> PatientCreated;
        recover_account() = POST "/v1/recoveries" -> ();
        log_in() = POST "/v1/sessions" -> Tokens;
        list_sessions() = GET "/v1/me/sessions" -> Sessions;
        end_other_sessions() = DELETE "/v1/me/sessions" -> Denial;
        end_session(id) = DELETE "/v1/me/sessions/{id}" -> Denial;
        step_up() = POST "/v1/sessions/current/step-up" -> SteppedUp;
        log_out() = DELETE "/v1/sessions/current" -> Denial;
        refresh_session() = POST "/v1/sessions/refresh" -> Tokens;
    }
    /// access-policy's operations.
    access_policy {
        admit() = POST "/internal/v1/admissions" -> Admission;
        decide() = POST "/internal/v1/decisions" -> DecisionAnswer;
        put_session(id) = PUT "/internal/v1/sessions/{id}" -> ();
        put_denial(kind, id) = PUT "/internal/v1/denials/{kind}/{id}" -> ();
        delete_denial(kind, id) = DELETE "/internal/v1/denials/{kind}/{id}" -> ();
        anchor_numbers() = POST "/internal/v1/keys/anchored" -> ();
        make_data_keys() = POST "/internal/v1/keys/data-keys" -> DataKeys;
        unwrap_keys() = POST "/internal/v1/keys/unwrap" -> Unwrapped;
        void_numbers() = POST "/internal/v1/keys/void" -> ();
        pin_patient() = POST "/internal/v1/patients" -> ();
        put_root_claim(id) = PUT "/internal/v1/patients/{id}/root-claim" -> ();
        delete_root_claim(id) = DELETE "/internal/v1/patients/{id}/root-claim" -> ();
        get_consent_version(id) = GET "/internal/v1/patients/{id}/consent-version" -> ConsentVersion;
        put_subject(id) = PUT "/internal/v1/subjects/{id}" -> ();
        list_access_requests() = GET "/v1/access-requests" -> AccessRequestPage;
        ask_for_access() = POST "/v1/access-requests" -> AccessRequestView;
        get_access_request(id) = GET "/v1/access-requests/{id}" -> AccessRequestView;
        deny_access_request(id) = POST "/v1/access-requests/{id}/denial" -> AccessRequestView;
        withdraw_access_request(id) = POST "/v1/access-requests/{id}/withdrawal" -> AccessRequestView;
        explain() = POST "/v1/explain" -> Explanation;
        list_grants() = GET "/v1/grants" -> GrantPage;
        draft_grant() = POST "/v1/grants" -> GrantDraft;
        get_grant(id) = GET "/v1/grants/{id}" -> GrantView;
        get_grant_proof(id) = GET "/v1/grants/{id}/proof" -> Raw;
        open_alteration(id) = PUT "/v1/grants/{id}/alteration" -> GrantView;
        freeze_grant(id) = PUT "/v1/grants/{id}/freeze" -> FreezeView;
        unfreeze_grant(id) = DELETE "/v1/grants/{id}/freeze" -> ();
        revoke_grant(id) = POST "/v1/grants/{id}/revocation" -> GrantView;
        sign_grant(id) = PUT "/v1/grants/{id}/signature" -> GrantView;
        list_accesses() = GET "/v1/me/accesses" -> AccessPage;
        get_access_proof(receipt) = GET "/v1/me/accesses/{receipt}/proof" -> Raw;
        get_freeze() = GET "/v1/me/freeze" -> FreezeView;
        freeze_all() = PUT "/v1/me/freeze" -> FreezeView;
        unfreeze_all() = DELETE "/v1/me/freeze" -> ();
        get_root(id) = GET "/v1/patients/{id}/root" -> RootView;
    }
    /// storage's operations.
    storage {
        fhir_bundle() = POST "/fhir" -> Raw;
        fhir_everything(id) = GET "/fhir/Patient/{id}/$everything" -> Raw;
        fhir_everything_by_post(id) = POST "/fhir/Patient/{id}/$everything" -> Raw;
        fhir_lastn() = GET "/fhir/Observation/$lastn" -> Raw;
        fhir_search_compartment(id, r#type) = GET "/fhir/Patient/{id}/{type}" -> Raw;
        fhir_smart_configuration() = GET "/fhir/.well-known/smart-configuration" -> AuthorizationServer;
        fhir_metadata() = GET "/fhir/metadata" -> Raw;
        fhir_search(r#type) = GET "/fhir/{type}" -> Raw;
        fhir_search_by_post(r#type) = POST "/fhir/{type}/_search" -> Raw;
        fhir_create(r#type) = POST "/fhir/{type}" -> Raw;
        fhir_read(r#type, id) = GET "/fhir/{type}/{id}" -> Raw;
        fhir_update(r#type, id) = PUT "/fhir/{type}/{id}" -> Raw;
        fhir_conditional_update(r#type) = PUT "/fhir/{type}" -> Raw;
        fhir_validate(r#type) = POST "/fhir/{type}/$validate" -> Raw;
        fhir_patch(r#type, id) = PATCH "/fhir/{type}/{id}" -> Raw;
        fhir_delete(r#type, id) = DELETE "/fhir/{type}/{id}" -> ();
        fhir_conditional_delete(r#type) = DELETE "/fhir/{type}" -> ();
        fhir_instance_history(r#type, id) = GET "/fhir/{type}/{id}/_history" -> Raw;
        fhir_type_history(r#type) = GET "/fhir/{type}/_history" -> Raw;
        fhir_system_history() = GET "/fhir/_history" -> Raw;
        fhir_vread(r#type, id, version) = GET "/fhir/{type}/{id}/_history/{version}" -> Raw;
        list_records() = GET "/v1/records" -> RecordPage;
        create_record() = POST "/v1/records" -> RecordCreated;
        get_record(id) = GET "/v1/records/{id}" -> RecordView;
        get_content(id) = GET "/v1/records/{id}/content" -> Raw;
        get_record_proof(id) = GET "/v1/records/{id}/proof" -> Raw;
        get_received(id) = GET "/v1/records/{id}/received" -> Raw;
    }
    /// A ledger node's operations.
    ledger {
        announce_address() = POST "/internal/v1/addresses" -> AddressesView;
        answer_challenge() = POST "/internal/v1/challenges" -> ChallengeAnswer;
        receive_envelope() = POST "/internal/v1/consensus" -> Raw;
        list_anchors() = GET "/v1/anchors" -> Raw;
        list_blocks() = GET "/v1/blocks" -> BlocksView;
        read_block(height) = GET "/v1/blocks/{height}" -> BlockView;
        read_checkpoint() = GET "/v1/checkpoint" -> Raw;
        read_checkpoint_at(height) = GET "/v1/checkpoints/{height}" -> Raw;
        prove_consistency(height) = GET "/v1/checkpoints/{height}/consistency" -> Raw;
        read_evidence(digest) = GET "/v1/evidence/{digest}" -> Raw;
        explore_blocks() = GET "/v1/explorer/blocks" -> Page<BlockSummary>;
        explore_block(block) = GET "/v1/explorer/blocks/{block}" -> BlockDetails;
        explore_block_transactions(height) = GET "/v1/explorer/blocks/{height}/transactions" -> Page<TransactionSummary>;
        explore_transactions() = GET "/v1/explorer/transactions" -> Page<TransactionSummary>;
        explore_transaction(txid) = GET "/v1/explorer/transactions/{txid}" -> TransactionSummary;
        explore_waiting() = GET "/v1/explorer/waiting" -> Page<WaitingSummary>;
        read_genesis() = GET "/v1/genesis" -> Raw;
        read_grant(key, grant) = GET "/v1/grants/{key}/{grant}" -> GrantStateView;
        prove_grant(key, grant) = GET "/v1/grants/{key}/{grant}/proof" -> Raw;
        read_key(kid) = GET "/v1/keys/{kid}" -> KeyView;
        prove_key(kid) = GET "/v1/keys/{kid}/proof" -> Raw;
        list_members() = GET "/v1/members" -> MembersView;
        list_changes() = GET "/v1/members/history" -> Page<ChangeView>;
        read_network() = GET "/v1/network" -> NetworkView;
        list_nodes() = GET "/v1/nodes" -> NodesView;
        read_staff(key) = GET "/v1/staff/{key}" -> StaffView;
        prove_staff(key) = GET "/v1/staff/{key}/proof" -> Raw;
        prove_state() = GET "/v1/state/proof" -> Raw;
        read_status() = GET "/v1/status" -> NodeStatus;
        stream_blocks() = GET "/v1/stream" -> Raw;
        submit_transaction() = POST "/v1/transactions" -> Promise;
        submit_transactions() = POST "/v1/transactions/batch" -> BatchAnswer;
        read_transaction(txid) = GET "/v1/transactions/{txid}" -> TransactionView;
        prove_transaction(txid) = GET "/v1/transactions/{txid}/proof" -> Raw;
        list_votes() = GET "/v1/votes" -> VotesView;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_stand_where_the_path_names_them() {
        let route = storage::fhir_vread("Observation", "rec-1", 2);
        assert_eq!(route.path, "/fhir/Observation/rec-1/_history/2");
        assert_eq!(auth::show_me().with("a=b").path, "/v1/me?a=b");
        assert_eq!(ledger::submit_transaction().method, Method::POST);
    }
}
