//! The running stack and its addresses.

use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Weak};

use anyhow::{Context as _, Result};
use hbc_client::{Endpoint, ServiceCaller};
use hbc_testkit::Stack;
use hbc_types::account::ServiceRole;
use hbc_types::{Clock, Random};
use tokio::sync::Mutex;

/// The stack that tests of one process share while any of them runs.
static SHARED: Mutex<Weak<Stack>> = Mutex::const_new(Weak::new());

/// The whole stack as real processes, and typed calls on it. The stack ends with the last of its users.
pub struct TestApp {
    stack: Owned,
    /// auth.
    pub auth: Endpoint,
    /// access-policy.
    pub access: Endpoint,
    /// storage.
    pub storage: Endpoint,
    /// The ledger nodes by name.
    pub nodes: Vec<(String, Endpoint)>,
    /// A plain client: whatever our own refuses to do.
    pub http: reqwest::Client,
    /// The system's clock.
    pub clock: Clock,
    /// The system's randomness.
    pub random: Random,
}

enum Owned {
    Alone(Box<Stack>),
    Shared(Arc<Stack>),
}

impl Deref for Owned {
    type Target = Stack;
    fn deref(&self) -> &Stack {
        match self {
            Self::Alone(stack) => stack,
            Self::Shared(stack) => stack,
        }
    }
}

impl TestApp {
    /// A stack of this test's own: for tests that stop, kill or change parts. `None` where there is no Kubo.
    pub async fn start() -> Result<Option<Self>> {
        Self::start_with(|_dir| Ok(())).await
    }

    /// The same, with `adjust` changing the folder's configuration before the start.
    pub async fn start_with(adjust: impl FnOnce(&Path) -> Result<()>) -> Result<Option<Self>> {
        Stack::start_with(adjust).await?.map(Self::of).transpose()
    }

    /// On a running stack of this test's own.
    pub fn of(stack: Stack) -> Result<Self> {
        Self::on(Owned::Alone(Box::new(stack)))
    }

    /// A stack that other tests of this process use as well: for tests that keep to their own people.
    pub async fn shared() -> Result<Option<Self>> {
        let mut shared = SHARED.lock().await;
        if let Some(stack) = shared.upgrade() {
            return Self::on(Owned::Shared(stack)).map(Some);
        }
        let Some(stack) = Stack::start().await? else { return Ok(None) };
        let stack = Arc::new(stack);
        *shared = Arc::downgrade(&stack);
        Self::on(Owned::Shared(stack)).map(Some)
    }

    /// Connections belong to the test that made them: each has its own, even on a shared stack.
    fn on(stack: Owned) -> Result<Self> {
        let endpoint = |url: &str| Endpoint::new(url).context("a service has no usable address");
        let nodes = stack.nodes().len();
        let names = (1..=nodes).map(|number| format!("node-{number}"));
        let nodes = names.map(|name| Ok((name.clone(), endpoint(stack.url(&name))?)));
        Ok(Self {
            auth: endpoint(stack.auth())?,
            access: endpoint(stack.access_policy())?,
            storage: endpoint(stack.storage())?,
            nodes: nodes.collect::<Result<_>>()?,
            http: hbc_testkit::http_client(),
            clock: Clock::system(),
            random: Random::system(),
            stack,
        })
    }

    /// The processes.
    #[must_use]
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The processes, to be restarted as a whole; only of a test's own stack.
    pub fn stack_mut(&mut self) -> Result<&mut Stack> {
        match &mut self.stack {
            Owned::Alone(stack) => Ok(stack),
            Owned::Shared(_) => anyhow::bail!("others use this stack"),
        }
    }

    /// The deployment's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.stack.dir()
    }

    /// A ledger node.
    pub fn node(&self, name: &str) -> Result<&Endpoint> {
        let found = self.nodes.iter().find(|(node, _)| node == name);
        found.map(|(_, node)| node).with_context(|| format!("no node is called `{name}`"))
    }

    /// A fresh `Idempotency-Key`.
    #[must_use]
    pub fn key(&self) -> String {
        hex::encode(self.random.bytes::<16>())
    }

    /// The words of a secret of the deployment.
    pub fn secret(&self, name: &str) -> Result<String> {
        let file = self.dir().join("secrets").join(name);
        let text = std::fs::read_to_string(&file).with_context(|| format!("no `{}`", file.display()))?;
        Ok(text.trim().to_owned())
    }

    /// Signs calls in the name of a service, with its real key.
    pub fn service(&self, role: ServiceRole) -> Result<ServiceCaller> {
        let seed = hex::decode(self.secret(&format!("{}.key", role.code()))?).context("the key is no hex")?;
        let seed: [u8; 32] = seed.as_slice().try_into().context("the key has another length")?;
        let key = ed25519_dalek::SigningKey::from_bytes(&seed);
        Ok(ServiceCaller::new(role, key, self.clock.clone(), self.random.clone()))
    }
}
