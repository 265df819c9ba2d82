//! How the caller wants the portal.

use hbc_service::Caller;
use hbc_types::wire::preferences::{NoticePreferences, Preferences};

use crate::app::App;
use crate::domain::input::Faults;
use crate::error::Error;
use crate::flows::sessions::{current, still_own};

/// The caller's preferences; the defaults for who never said any.
pub async fn show(app: &App, caller: &Caller) -> Result<Preferences, Error> {
    let (account, _session) = current(app, caller).await?;
    let stored = app.store.rows.preferences(app.store.db.reads(), &account.id).await?;
    Ok(stored.unwrap_or_default())
}

/// Replaces them.
pub async fn set(app: &App, caller: &Caller, preferences: Preferences) -> Result<Preferences, Error> {
    let Preferences { language: _, theme: _, time_zone, units: _, discreet_titles: _, notices } =
        &preferences;
    let mut faults = Faults::default();
    if let Some(zone) = time_zone {
        faults.time_zone("time_zone", zone);
    }
    let NoticePreferences { email: _, kinds } = notices;
    let mut once = kinds.clone();
    once.sort_unstable();
    once.dedup();
    if once.len() < kinds.len() {
        faults.add("notices.kinds", "names a kind twice");
    }
    faults.into_result().map_err(Error::Invalid)?;
    let (id, session, now) = (caller.account.clone(), caller.session.clone(), app.clock.now());
    let new = preferences.clone();
    app.store
        .write(move |tx, rows| {
            Box::pin(async move {
                let account = rows.account(&mut *tx, id.as_str()).await?.ok_or(Error::Unauthenticated)?;
                still_own(&rows, tx, &session, &account, now).await?;
                Ok::<_, Error>(rows.put_preferences(tx, &id, &new).await?)
            })
        })
        .await?;
    Ok(preferences)
}
