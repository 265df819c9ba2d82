//! `hbc openapi`: the documents under `openapi/`, generated from the route tables, or a check that they are current.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use utoipa::openapi::OpenApi;

/// Each service's document by the name of its file.
pub fn documents() -> [(&'static str, OpenApi); 4] {
    [
        ("auth.json", hbc_app::openapi::<hbc_auth::Auth>()),
        ("access-policy.json", hbc_app::openapi::<hbc_access_policy::AccessPolicy>()),
        ("ledger.json", hbc_ledger::openapi()),
        ("storage.json", hbc_app::openapi::<hbc_storage::Storage>()),
    ]
}

/// Writes every document into `folder`, or with `check` fails on the first that differs.
pub fn run(folder: &Path, check: bool) -> Result<()> {
    for (name, document) in documents() {
        let path = folder.join(name);
        let text = document.to_pretty_json().context("a document cannot be written as JSON")? + "\n";
        if check {
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            if committed != text {
                bail!(
                    "`{}` is not what the route table says; run `make openapi` and commit it",
                    path.display()
                );
            }
        } else {
            std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_documents_are_current() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi");
        super::run(&folder, true).unwrap();
    }
}
