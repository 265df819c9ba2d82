//! A deployment is made whole, once, and says the same thing everywhere.

use super::*;
use crate::ports::Ports;

fn init(dir: &Path, dev: bool) -> Result<()> {
    run(&Init { dev, ports: Ports::Auto, dir: dir.to_owned() }, &Clock::system(), &Random::system())
}

#[test]
fn a_deployment_is_whole_private_and_made_only_once() {
    use std::os::unix::fs::PermissionsExt as _;
    if let Err(error) = kubo::find() {
        hbc_testkit::skip(&error.to_string());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("site");
    init(&dir, true).unwrap();
    let deployment = Deployment::at(&dir).unwrap();

    let genesis = std::fs::read(deployment.genesis()).unwrap();
    let genesis = hbc_chain::genesis::Genesis::parse(&genesis).unwrap();
    assert_eq!((genesis.members.len(), genesis.operators.len()), (4, 1));
    let settings = Settings::read(&deployment.settings()).unwrap();
    assert_eq!(settings.services.iter().filter(|service| service.is_node()).count(), 4);
    for row in &services::ALL {
        assert!(settings.services.iter().any(|service| service.role == row.name), "{}", row.name);
    }
    for service in &settings.services {
        let text = std::fs::read_to_string(deployment.config(&service.name)).unwrap();
        let config: toml::Table = text.parse().unwrap();
        assert_eq!(config["server"]["port"].as_integer(), Some(i64::from(service.port)));
        assert!(!text.contains(".new-"), "{} names the folder in the making", service.name);
    }
    for entry in std::fs::read_dir(dir.join("secrets")).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert!(init(&dir, true).unwrap_err().to_string().contains("exists and is not empty"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_real_deployment_has_two_operators_and_keeps_no_password() {
    if let Err(error) = kubo::find() {
        hbc_testkit::skip(&error.to_string());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("site");
    std::fs::create_dir(&dir).unwrap();
    init(&dir, false).unwrap();
    let deployment = Deployment::at(&dir).unwrap();
    assert!(!deployment.secret("logins.json").exists());
    let genesis = std::fs::read(deployment.genesis()).unwrap();
    let genesis = hbc_chain::genesis::Genesis::parse(&genesis).unwrap();
    assert_eq!((genesis.operators.len(), genesis.parameters.approvals), (2, 2));
}
