//! The HTTP API, asked by requests that schemathesis makes from the document that describes it: none may be answered with
//! an error of the server's, or with what the document does not say.

use anyhow::Result;
use campfire_tests::cluster::{Cluster, Options};
use campfire_tests::relay::Settings;
use campfire_tests::server::Server;
use campfire_tests::{AGENT, ORGANIZATION, layout, token};
use uuid::{Uuid, uuid};

use crate::tally::Tally;
use crate::{python, step, up};

const SCHEMATHESIS: &str = "4.32.5";

/// What makes each run the same: what fails in CI fails here.
const SEED: &str = "1";

/// Requests for each operation in each phase.
const EXAMPLES: &str = "50";

/// What requests are about, as tests/api/schemathesis.toml names it.
const CONVERSATION: Uuid = uuid!("00000000-0000-4000-8000-0000000000c0");
const MESSAGE: Uuid = uuid!("00000000-0000-4000-8000-0000000000d0");

fn things() -> String {
    format!(
        "insert into conversations (id, organization_id, customer_name, customer_email)
         values ('{CONVERSATION}', '{ORGANIZATION}', 'Vera Visitor', 'vera@example.com');
         insert into messages (id, organization_id, conversation_id, content, sender_type)
         values ('{MESSAGE}', '{ORGANIZATION}', '{CONVERSATION}', 'Hello', 'visitor');"
    )
}

/// As everybody who may ask, in turn.
pub(crate) fn fuzz(server: &Server) -> Result<Tally> {
    let python = python::ensure("schemathesis", SCHEMATHESIS)?;
    let program = python.with_file_name("schemathesis");
    let cluster = Cluster::boot_with(Options { version: Some(server.version), ..Options::default() })?;
    let mut sum = Tally::default();
    up::block_on(async {
        // All of it comes with one token.
        let relay = Settings::of(&cluster)?.env("CAMPFIRE_API_REQUESTS_PER_SECOND", "0").start().await?;
        cluster.connect().await?.batch_execute(&things()).await?;
        let secret = &cluster.credentials.jwt_secret;
        for (who, token, tag) in [
            ("a visitor", token::visitor(secret, ORGANIZATION, CONVERSATION), "widget"),
            ("an agent", token::agent(secret, ORGANIZATION, AGENT), "dashboard"),
            ("service_role", token::service(secret), "dashboard"),
        ] {
            let mut command = step::command(&program);
            command
                .arg("--config-file")
                .arg(layout::repository().join("tests/api/schemathesis.toml"))
                .arg("run")
                .arg(format!("http://{}/openapi.json", relay.address()))
                .args(["--include-tag", tag, "--seed", SEED, "--max-examples", EXAMPLES])
                .env("CAMPFIRE_TOKEN", token)
                .current_dir(layout::target());
            sum.check(&format!("as {who}"), &mut command);
        }
        anyhow::Ok(())
    })?;
    Ok(sum)
}
