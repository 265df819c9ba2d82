//! What access-policy is owed. A row only names a subject and what kind of news there is; what is sent is computed from
//! the subject's own sealed row when it is sent, so that a forged row here can only repeat the truth.

use hbc_db::Tx;
use hbc_types::Timestamp;

use super::{Rows, StoreError};
use hbc_db::row::{Reader, bad};

/// A kind of news.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PushKind {
    /// How an account stands.
    Subject,
    /// A patient's root key.
    Patient,
    /// Whether an account is denied.
    Denial,
    /// That a session ended.
    Session,
}

impl PushKind {
    /// Every kind, in the order in which one subject's news are sent.
    pub const ALL: [Self; 4] = [Self::Subject, Self::Patient, Self::Denial, Self::Session];

    /// The code in the database.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Patient => "patient",
            Self::Denial => "denial",
            Self::Session => "session",
        }
    }

    const fn place(self) -> i64 {
        match self {
            Self::Subject => 1,
            Self::Patient => 2,
            Self::Denial => 3,
            Self::Session => 4,
        }
    }
}

/// A push that is owed.
#[derive(Clone, Debug)]
pub struct Push {
    /// The kind of news.
    pub kind: PushKind,
    /// An account or a session.
    pub subject: String,
    /// Grows with every change: an acknowledgement counts only if it did not grow meanwhile.
    pub wanted: i64,
    /// How often it was tried.
    pub attempts: i64,
}

impl Rows {
    /// Owes access-policy news of `kind` about `subject`, due at once.
    pub async fn owe(
        &self,
        tx: &mut Tx,
        kind: PushKind,
        subject: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO pushes (kind, subject, place, wanted, attempts, due_at_ms, done_at_ms)
             VALUES ($1, $2, $3, 1, 0, $4, NULL)
             ON CONFLICT (kind, subject) DO UPDATE SET wanted = pushes.wanted + 1, attempts = 0,
                 due_at_ms = excluded.due_at_ms, done_at_ms = NULL",
        )
        .bind(kind.code())
        .bind(subject.to_owned())
        .bind(kind.place())
        .bind(now.ms())
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Up to `limit` pushes that are due, oldest first.
    pub async fn due_pushes<'e, E>(
        &self,
        executor: E,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Push>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let rows = sqlx::query(
            "SELECT kind, subject, wanted, attempts FROM pushes WHERE done_at_ms IS NULL AND due_at_ms <= $1
             ORDER BY due_at_ms, place LIMIT $2",
        )
        .bind(now.ms())
        .bind(i64::from(limit))
        .fetch_all(executor)
        .await?;
        rows.iter().map(push).collect()
    }

    /// What is owed about `subject`, in the order in which it is to be sent.
    pub async fn open_pushes<'e, E>(&self, executor: E, subject: &str) -> Result<Vec<Push>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let rows = sqlx::query(
            "SELECT kind, subject, wanted, attempts FROM pushes WHERE subject = $1 AND done_at_ms IS NULL ORDER BY place",
        )
        .bind(subject.to_owned())
        .fetch_all(executor)
        .await?;
        rows.iter().map(push).collect()
    }

    /// access-policy stored it. Returns whether nothing newer is owed meanwhile.
    pub async fn push_done(&self, tx: &mut Tx, push: &Push, now: Timestamp) -> Result<bool, StoreError> {
        let done =
            sqlx::query("UPDATE pushes SET done_at_ms = $4 WHERE kind = $1 AND subject = $2 AND wanted = $3")
                .bind(push.kind.code())
                .bind(push.subject.clone())
                .bind(push.wanted)
                .bind(now.ms())
                .execute(tx)
                .await?;
        Ok(done.rows_affected() == 1)
    }

    /// It did not work; it is due again at `again`.
    pub async fn push_failed(&self, tx: &mut Tx, push: &Push, again: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE pushes SET attempts = attempts + 1, due_at_ms = $3
             WHERE kind = $1 AND subject = $2 AND done_at_ms IS NULL",
        )
        .bind(push.kind.code())
        .bind(push.subject.clone())
        .bind(again.ms())
        .execute(tx)
        .await?;
        Ok(())
    }
}

fn push(row: &sqlx::any::AnyRow) -> Result<Push, StoreError> {
    let row = Reader(row);
    let kind = row.text("kind")?;
    Ok(Push {
        kind: PushKind::ALL.into_iter().find(|known| known.code() == kind).ok_or_else(|| bad("kind"))?,
        subject: row.text("subject")?,
        wanted: row.number("wanted")?,
        attempts: row.number("attempts")?,
    })
}
