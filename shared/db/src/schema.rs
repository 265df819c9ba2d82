//! What a database consists of, by name: what is missing from it or was added by another hand.

use std::collections::BTreeSet;

use sqlx::Row as _;

use crate::{Db, DbError, Engine};

/// Names of tables, indexes, triggers and rules, each after its kind.
const SQLITE: &str =
    "SELECT type || ' ' || name AS name FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
const POSTGRES: &str = "
    SELECT CAST('table ' || tablename AS TEXT) AS name FROM pg_tables WHERE schemaname = current_schema()
    UNION ALL
    SELECT CAST('index ' || indexname AS TEXT) FROM pg_indexes WHERE schemaname = current_schema()
    UNION ALL
    SELECT CAST('rule ' || rulename AS TEXT) FROM pg_rules WHERE schemaname = current_schema()
    UNION ALL
    SELECT CAST('trigger ' || t.tgname AS TEXT) FROM pg_trigger AS t
    JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE NOT t.tgisinternal AND n.nspname = current_schema()";

/// The names of everything that a database consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema(BTreeSet<String>);

impl Schema {
    /// As it is now.
    pub async fn read(db: &Db) -> Result<Self, DbError> {
        let statement = match db.engine() {
            Engine::Sqlite => SQLITE,
            Engine::Postgres => POSTGRES,
        };
        let rows = sqlx::query(statement).fetch_all(db.reads()).await?;
        Ok(Self(rows.iter().map(|row| row.try_get("name")).collect::<Result<_, sqlx::Error>>()?))
    }

    /// What of it is not as it was `before`; triggers and rules, which HBC has none of, never are. Nothing if all is.
    #[must_use]
    pub fn oddity(&self, before: &Self) -> Option<String> {
        let foreign = |name: &&String| name.starts_with("trigger ") || name.starts_with("rule ");
        if let Some(name) = self.0.iter().find(foreign) {
            return Some(format!("there is a {name}"));
        }
        if let Some(name) = before.0.difference(&self.0).next() {
            return Some(format!("{name} is gone"));
        }
        self.0.difference(&before.0).next().map(|name| format!("{name} is new"))
    }
}
