//! Who is online: an agent's first dashboard opens, the last one closes.

use anyhow::{Result, ensure};
use campfire_tests::socket::Vsn;
use campfire_tests::{AGENT, ORGANIZATION, chat, token};
use serde_json::json;

use crate::scene::{Scene, scene_test};

#[scene_test(|settings| settings.env("CAMPFIRE_PRESENCE_GRACE_SECONDS", "1"))]
async fn the_organization_hears_who_comes_and_goes_and_widgets_whether_anybody_is_there(
    scene: &mut Scene,
) -> Result<()> {
    let conversation = scene.conversation().await?;
    let org = chat::organization_channel(ORGANIZATION);
    for vsn in Vsn::BOTH {
        let mut service = scene.socket(vsn).await?;
        service.join(&org, &token::service(scene.secret())).await?;
        // The dashboard that waited for the conversation has gone by and by.
        let mut widget = scene.widget(vsn, conversation).await?;
        let mut status = widget.next_status().await?;
        while status.payload["online"] == true {
            status = widget.next_status().await?;
        }
        ensure!(
            status.name == "agent:status:offline" && status.payload == json!({"online": false}),
            "{status:?}"
        );
        let first = scene.dashboard(vsn, &[&org]).await?;
        let online = loop {
            let status = service.next_status().await?;
            if status.name == "agent:status:online" {
                break status;
            }
        };
        ensure!(online.payload == json!({"user_id": AGENT, "display_name": "Ada"}), "{online:?}");
        ensure!(online.meta.is_null(), "{online:?}");
        let status = widget.next_status().await?;
        ensure!(
            status.name == "agent:status:online" && status.payload == json!({"online": true}),
            "{status:?}"
        );
        // A second widget is told on its join, an agent's name never.
        let mut late = scene.widget(vsn, conversation).await?;
        ensure!(late.next_status().await?.payload == json!({"online": true}));
        // A second dashboard opens before the first closes: no news.
        let second = scene.dashboard(vsn, &[&org]).await?;
        drop(first);
        let update = "update agents set display_name = 'Ada L.' where user_id = $1";
        scene.database.execute(update, &[&AGENT]).await?;
        scene.settle().await?;
        drop(second);
        let offline = service.next_status().await?;
        let renamed = json!({"user_id": AGENT, "display_name": "Ada L."});
        ensure!(offline.name == "agent:status:offline" && offline.payload == renamed, "{offline:?}");
        ensure!(widget.next_status().await?.payload == json!({"online": false}));
        let update = "update agents set display_name = 'Ada' where user_id = $1";
        scene.database.execute(update, &[&AGENT]).await?;
        scene.settle().await?;
    }
    Ok(())
}
