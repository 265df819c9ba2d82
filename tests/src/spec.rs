//! The OpenAPI documents as the services serve them.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::TestApp;

/// One operation of a service.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The service, as its document is called.
    pub service: String,
    /// One of the service's processes.
    pub process: String,
    /// `GET`, `POST`, …
    pub method: String,
    /// The path's template.
    pub path: String,
    /// Who may call.
    pub access: Access,
    /// What the document says about it.
    pub document: Value,
}

/// Who may call an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Anybody.
    Public,
    /// Whoever holds a user's token.
    User,
    /// A service.
    Service,
    /// A member of the ledger.
    Member,
}

impl Operation {
    /// `service METHOD /path`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {} {}", self.service, self.method, self.path)
    }

    /// Its id, which typed clients go by.
    pub fn id(&self) -> Result<&str> {
        self.document
            .get("operationId")
            .and_then(Value::as_str)
            .with_context(|| format!("{} has no id", self.name()))
    }

    /// The statuses that are documented.
    #[must_use]
    pub fn statuses(&self) -> Vec<u16> {
        let responses = self.document.get("responses").and_then(Value::as_object);
        responses.into_iter().flatten().filter_map(|(status, _)| status.parse().ok()).collect()
    }
}

/// A service's document as it is served.
pub async fn document(app: &TestApp, process: &str) -> Result<Value> {
    let url = format!("{}/openapi.json", app.stack().url(process));
    let answer = app.http.get(url).send().await?.error_for_status()?;
    answer.json().await.with_context(|| format!("{process} serves no OpenAPI document"))
}

/// Every operation of every service.
pub async fn operations(app: &TestApp) -> Result<Vec<Operation>> {
    let mut all = Vec::new();
    for (service, process) in app.stack().services() {
        let document = document(app, process).await?;
        let paths = document.get("paths").and_then(Value::as_object).context("there are no paths")?;
        for (path, item) in paths {
            for (method, operation) in item.as_object().context("a path is no object")? {
                all.push(Operation {
                    service: service.to_owned(),
                    process: process.to_owned(),
                    method: method.to_uppercase(),
                    path: path.clone(),
                    access: access(operation),
                    document: operation.clone(),
                });
            }
        }
    }
    Ok(all)
}

fn access(operation: &Value) -> Access {
    let requirements = operation.get("security").and_then(Value::as_array);
    let schemes: Vec<&str> = requirements
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .flat_map(|requirement| requirement.keys().map(String::as_str))
        .collect();
    if schemes.contains(&"member") {
        Access::Member
    } else if schemes.contains(&"service") {
        Access::Service
    } else if schemes.contains(&"user") {
        Access::User
    } else {
        Access::Public
    }
}
