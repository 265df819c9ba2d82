//! What every service is told from outside. A service's own configuration embeds it, flat, so that a file has one level
//! of keys; unknown ones are refused by the outer struct.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use hbc_chain::genesis::Genesis;
use hbc_service::ServerSettings;
use hbc_service::config::SecretFile;
use hbc_service::telemetry::TelemetrySettings;
use hbc_types::secret::SecretText;
use serde::{Deserialize, Serialize};

/// What every service is told. Embed it with `#[serde(flatten)]` in a struct that has `#[serde(deny_unknown_fields)]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Where it listens.
    #[serde(default)]
    pub server: ServerSettings,
    /// How it logs.
    #[serde(default)]
    pub telemetry: TelemetrySettings,
    /// Its database: `sqlite:PATH` or `postgres://…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_url: Option<String>,
    /// A file that holds the database's address instead, where that has a password in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_url_file: Option<SecretFile>,
    /// The deployment's genesis.json: chain id, members, service keys, operators, parameters.
    pub genesis_file: PathBuf,
    /// Seed of its service key, as the genesis names it: signs calls to other services and its ledger transactions.
    pub service_key_file: SecretFile,
    /// `iss` of access tokens: the address under which clients know auth.
    pub issuer: String,
    /// `aud` of access tokens: the deployment.
    pub audience: String,
    /// Where the ledger nodes answer, in the order in which they are tried.
    pub ledger_urls: Vec<String>,
}

impl Settings {
    /// The database's address, from whichever of the two keys is given.
    pub fn database_url(&self) -> anyhow::Result<SecretText> {
        match (&self.database_url, &self.database_url_file) {
            (Some(url), None) => Ok(SecretText::new(url.clone())),
            (None, Some(file)) => Ok(file.text()?),
            _ => bail!("exactly one of `database_url` and `database_url_file` must be given"),
        }
    }

    /// Reads the genesis document.
    pub fn genesis(&self) -> anyhow::Result<Genesis> {
        let path = self.genesis_file.display();
        let file = std::fs::read(&self.genesis_file).with_context(|| format!("cannot read `{path}`"))?;
        Genesis::parse(&file).with_context(|| format!("`{path}` founds no chain"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(flatten)]
        base: Settings,
        own: u32,
    }

    const TEXT: &str = "own = 3\ndatabase_url = \"sqlite:a.db\"\ngenesis_file = \"g.json\"\n\
        service_key_file = \"s.key\"\nissuer = \"i\"\naudience = \"a\"\nledger_urls = []\n";

    #[test]
    fn an_embedded_base_is_flat_in_the_file_and_unknown_keys_are_refused() {
        let sample: Sample = toml::from_str(TEXT).unwrap();
        assert_eq!((sample.own, sample.base.server.port), (3, 0));
        let written = toml::to_string_pretty(&sample).unwrap();
        assert!(written.lines().any(|line| line == "database_url = \"sqlite:a.db\""), "{written}");
        toml::from_str::<Sample>(&written).unwrap();
        for unknown in ["database = \"x\"", "[base]\nissuer = \"x\"", "[server]\nprot = 1"] {
            assert!(toml::from_str::<Sample>(&format!("{TEXT}{unknown}\n")).is_err(), "{unknown}");
        }
        assert!(toml::from_str::<Sample>(&TEXT.replace("issuer", "isuer")).is_err());
    }

    #[test]
    fn the_database_is_named_exactly_once() {
        let sample = |text: &str| toml::from_str::<Sample>(text).unwrap().base;
        assert_eq!(sample(TEXT).database_url().unwrap().expose(), "sqlite:a.db");
        let both = format!("database_url_file = \"b\"\n{TEXT}");
        assert!(sample(&both).database_url().is_err());
        assert!(sample(&TEXT.replace("database_url = \"sqlite:a.db\"", "")).database_url().is_err());
    }
}
