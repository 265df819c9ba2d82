//! Staff keys of agencies that asked for another one, and what a waiting key of an organisation has signed already.

use hbc_db::{Column, DbError, RowMacError, Tx};
use hbc_types::Timestamp;
use hbc_types::ids::AgencyId;
use sqlx::any::AnyRow;

use super::{Rows, StoreError, alarm};
use crate::domain::floors::{self, Change, STAFF_KEY};
use crate::domain::staff::StaffKey;
use hbc_db::row::Reader;

const TABLE: &str = "staff_keys";
const MEMBERSHIPS: &str = "next_memberships";

fn with_columns<T>(key: &StaffKey, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
    let StaffKey {
        agency,
        n,
        public_key,
        asked_at,
        signed_at,
        active_at,
        ended_at,
        ending,
        ending_by,
        version,
    } = key;
    work(&[
        agency.as_str().into(),
        (*n).into(),
        public_key.as_slice().into(),
        asked_at.ms().into(),
        signed_at.map(Timestamp::ms).into(),
        active_at.map(Timestamp::ms).into(),
        ended_at.map(Timestamp::ms).into(),
        ending.as_ref().into(),
        ending_by.as_ref().into(),
        (*version).into(),
    ])
}

fn read(row: &AnyRow, rows: &Rows) -> Result<StaffKey, StoreError> {
    let row = Reader(row);
    let key = StaffKey {
        agency: row.parsed("agency")?,
        n: row.number("n")?,
        public_key: row.array("public_key")?,
        asked_at: row.time("asked_at_ms")?,
        signed_at: row.time_opt("signed_at_ms")?,
        active_at: row.time_opt("active_at_ms")?,
        ended_at: row.time_opt("ended_at_ms")?,
        ending: row.text_opt("ending")?,
        ending_by: row.text_opt("ending_by")?,
        version: row.number("version")?,
    };
    let mac = row.bytes("mac")?;
    with_columns(&key, |columns| rows.check(TABLE, columns, &mac))?;
    Ok(key)
}

const fn last_change(agency: AgencyId, n: i64, version: i64) -> Change {
    Change::StaffKey(agency, n, version)
}

impl Rows {
    /// The keys of an agency in the order of their numbers, which have no gaps; none if it never asked for another one. A key
    /// that is missing, or older than its last change, is of another hand.
    pub async fn staff_keys<'e, E>(&self, executor: E, agency: &AgencyId) -> Result<Vec<StaffKey>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let floor = |n| self.floors.get(STAFF_KEY, &floors::staff_key(agency, n));
        let known: Vec<i64> = (0..).map_while(floor).collect();
        let rows = sqlx::query("SELECT * FROM staff_keys WHERE agency = $1 ORDER BY n")
            .bind(agency.as_str().to_owned())
            .fetch_all(executor)
            .await?;
        let keys = rows.iter().map(|row| read(row, self)).collect::<Result<Vec<_>, _>>()?;
        for (n, key) in (0_i64..).zip(&keys) {
            if key.n != n {
                alarm(TABLE);
                return Err(RowMacError { table: TABLE }.into());
            }
        }
        let mut written = keys.iter().map(|key| key.version);
        for (n, known) in (0_i64..).zip(known) {
            // One that is not there any more was never changed.
            let written = last_change(agency.clone(), n, written.next().unwrap_or_default());
            self.check_age(TABLE, &written, Some(known))?;
        }
        Ok(keys)
    }

    /// Adds a key.
    pub async fn insert_staff_key(&self, tx: &mut Tx, key: &StaffKey) -> Result<(), StoreError> {
        let sql = "INSERT INTO staff_keys (agency, n, public_key, asked_at_ms, signed_at_ms, active_at_ms, ended_at_ms, ending,
                ending_by, version, mac)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        self.write_staff_key(sql, tx, key).await
    }

    /// Writes a key back, as its next version.
    pub async fn change_staff_key(&self, tx: &mut Tx, key: &mut StaffKey) -> Result<(), StoreError> {
        key.version += 1;
        let sql =
            "UPDATE staff_keys SET public_key = $3, asked_at_ms = $4, signed_at_ms = $5, active_at_ms = $6,
                ended_at_ms = $7, ending = $8, ending_by = $9, version = $10, mac = $11
            WHERE agency = $1 AND n = $2";
        self.write_staff_key(sql, tx, key).await
    }

    async fn write_staff_key(
        &self,
        sql: &'static str,
        tx: &mut Tx,
        key: &StaffKey,
    ) -> Result<(), StoreError> {
        self.note(last_change(key.agency.clone(), key.n, key.version))?;
        let StaffKey {
            agency,
            n,
            public_key,
            asked_at,
            signed_at,
            active_at,
            ended_at,
            ending,
            ending_by,
            version,
        } = key;
        let done = sqlx::query(sql)
            .bind(agency.as_str().to_owned())
            .bind(*n)
            .bind(public_key.to_vec())
            .bind(asked_at.ms())
            .bind(signed_at.map(Timestamp::ms))
            .bind(active_at.map(Timestamp::ms))
            .bind(ended_at.map(Timestamp::ms))
            .bind(ending.clone())
            .bind(ending_by.clone())
            .bind(*version)
            .bind(with_columns(key, |columns| self.mac_of(TABLE, columns)))
            .execute(tx)
            .await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }

    /// Keeps what an organisation's waiting key signed about a member, in the place of what it signed before.
    pub async fn put_next_membership(
        &self,
        tx: &mut Tx,
        organisation: &AgencyId,
        member: &AgencyId,
        jws: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO next_memberships (organisation, member, jws, mac) VALUES ($1, $2, $3, $4)
             ON CONFLICT (organisation, member) DO UPDATE SET jws = excluded.jws, mac = excluded.mac",
        )
        .bind(organisation.as_str().to_owned())
        .bind(member.as_str().to_owned())
        .bind(jws.to_owned())
        .bind(self.mac_of(MEMBERSHIPS, &[organisation.as_str().into(), member.as_str().into(), jws.into()]))
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Takes away what an organisation's waiting key signed about members.
    pub async fn take_next_memberships(
        &self,
        tx: &mut Tx,
        organisation: &AgencyId,
    ) -> Result<Vec<(AgencyId, String)>, StoreError> {
        let rows = sqlx::query("DELETE FROM next_memberships WHERE organisation = $1 RETURNING *")
            .bind(organisation.as_str().to_owned())
            .fetch_all(tx)
            .await?;
        let taken = rows.iter().map(|row| {
            let row = Reader(row);
            let (member, jws): (AgencyId, String) = (row.parsed("member")?, row.text("jws")?);
            let columns = [organisation.as_str().into(), member.as_str().into(), jws.as_str().into()];
            self.check(MEMBERSHIPS, &columns, &row.bytes("mac")?)?;
            Ok((member, jws))
        });
        taken.collect()
    }
}
