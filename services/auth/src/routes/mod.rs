//! The HTTP table of auth. A handler parses, authorises by its argument types, calls one flow, answers.

pub mod agencies;
pub mod apps;
pub mod authorizations;
pub mod clients;
pub mod consents;
pub mod custody;
pub mod devices;
pub mod me;
pub mod members;
pub mod metadata;
pub mod oauth;
pub mod passkeys;
pub mod preferences;
pub mod recoveries;
pub mod root_claims;
pub mod sessions;
pub mod sign_up;
pub mod staff_keys;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, HttpResponseBuilder};
use hbc_service::{Caller, Problem, Routes, peer_address};
use hbc_types::wire::auth::Denial;

use crate::app::App;
use crate::flows::login::Origin;
use crate::flows::sessions::current;
use crate::store::accounts::Account;

/// Every operation.
pub fn table(routes: &mut Routes<'_>) {
    routes
        .service(sign_up::patient)
        .service(sign_up::agency)
        .service(sessions::log_in)
        .service(passkeys::prepare_log_in)
        .service(passkeys::log_in)
        .service(sessions::refresh)
        .service(sessions::log_out)
        .service(sessions::step_up)
        .service(sessions::list)
        .service(sessions::end_others)
        .service(sessions::end)
        .service(recoveries::recover)
        .service(recoveries::renew)
        .service(me::show)
        .service(me::set_contact)
        .service(me::set_password)
        .service(me::close)
        .service(me::prepare_totp)
        .service(me::confirm_totp)
        .service(me::remove_totp)
        .service(preferences::show)
        .service(preferences::set)
        .service(passkeys::prepare)
        .service(passkeys::list)
        .service(passkeys::register)
        .service(passkeys::remove)
        .service(passkeys::prepare_step_up)
        .service(passkeys::step_up)
        .service(clients::list)
        .service(clients::register)
        .service(clients::set_keys)
        .service(clients::remove)
        .service(apps::list)
        .service(apps::show)
        .service(apps::register)
        .service(apps::approve)
        .service(apps::end)
        .service(authorizations::ask)
        .service(authorizations::show)
        .service(authorizations::decide)
        .service(authorizations::list)
        .service(authorizations::send_away)
        .service(devices::register)
        .service(devices::claim)
        .service(devices::of_device)
        .service(devices::make_code)
        .service(devices::show_code)
        .service(devices::end_code)
        .service(devices::confirm)
        .service(devices::list)
        .service(devices::remove)
        .service(members::list)
        .service(members::take_in)
        .service(members::dismiss)
        .service(members::leave)
        .service(custody::set)
        .service(custody::wraps)
        .service(custody::put_wrap)
        .service(root_claims::claim)
        .service(root_claims::show)
        .service(root_claims::withdraw)
        .service(root_claims::list)
        .service(root_claims::approve)
        .service(consents::register_key)
        .service(consents::sign_consent)
        .service(consents::sign_revocation)
        .service(consents::sign_unfreeze)
        .service(agencies::list)
        .service(agencies::show)
        .service(agencies::approve)
        .service(agencies::reject)
        .service(agencies::suspend)
        .service(agencies::reinstate)
        .service(agencies::revoke)
        .service(staff_keys::ask)
        .service(staff_keys::withdraw)
        .service(staff_keys::approve)
        .service(oauth::grant)
        .service(oauth::revoke)
        .service(oauth::introspect)
        .service(metadata::jwks)
        .service(metadata::authorization_server)
        .service(metadata::smart_configuration);
}

/// The address that failures are counted under.
fn address(request: &HttpRequest) -> String {
    peer_address(request).map(|address| address.to_string()).unwrap_or_default()
}

/// Failures of who is logged in are counted under their session.
fn in_session(caller: &Caller) -> Origin {
    Origin::Session(caller.session.clone())
}

/// The caller's account as it stands now.
async fn account(app: &App, caller: &Caller) -> Result<Account, Problem> {
    Ok(current(app, caller).await?.0)
}

/// 200 once access-policy stored the denial, 202 while it is still being told.
fn denial(denial: &Denial) -> HttpResponse {
    let status = if denial.effective { StatusCode::OK } else { StatusCode::ACCEPTED };
    HttpResponseBuilder::new(status).json(denial)
}
