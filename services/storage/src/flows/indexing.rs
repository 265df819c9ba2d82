//! What records are found by: taken from a resource in its applied form, and kept encrypted.

use hbc_types::ids::RecordId;
use serde_json::Value;

use crate::app::App;
use crate::domain::search::facts::Facts;
use crate::domain::search::parameters::parameters;
use crate::error::Error;
use crate::store::RecordRow;

/// What a version of a resource says to searches, encrypted.
pub fn facts(
    app: &App,
    record: &RecordId,
    version: u32,
    kind: &str,
    applied: &[u8],
) -> Result<Vec<u8>, Error> {
    let facts = read(kind, applied)?.to_bytes();
    let encrypted = app.index.encrypt_facts(record, version, &facts, &app.random);
    encrypted.map_err(|_never| Error::Fault("facts could not be encrypted"))
}

/// What a resource says to searches.
pub fn read(kind: &str, applied: &[u8]) -> Result<Facts, Error> {
    // What JSON allows and no number of ours holds was refused when it came; of what was taken before that, nothing is said.
    let resource: Value = serde_json::from_slice(applied).unwrap_or_default();
    Ok(Facts::of(parameters()?, kind, &resource))
}

/// The facts of a row, if it is indexed as rows are now.
pub fn open(app: &App, row: &RecordRow) -> Result<Option<Facts>, Error> {
    let Some(encrypted) = &row.facts else { return Ok(None) };
    let wrong = || Error::integrity("a record's facts", row.id.as_str());
    let bytes = app.index.open_facts(&row.id, row.version, encrypted).map_err(|_row| wrong())?;
    Facts::parse(&bytes).map(Some).ok_or_else(wrong)
}
