//! Which programs are registered, and the one answer to who is not known.

use hbc_types::ids::ClientId;

use crate::error::Error;
use crate::store::Rows;
use crate::store::clients::Client;

/// Who is not known, or did not prove it: one answer.
pub fn unknown() -> Error {
    Error::InvalidClient("no such client, or not signed with its key for this server")
}

/// A client that was not removed.
pub async fn registered<'e, E>(rows: &Rows, executor: E, id: &ClientId) -> Result<Client, Error>
where
    E: sqlx::Executor<'e, Database = sqlx::Any>,
{
    let client = rows.client(executor, id).await?;
    client.filter(|client| client.removed_at.is_none()).ok_or_else(unknown)
}
