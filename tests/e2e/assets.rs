//! The files that the relay embeds.

use anyhow::{Context, Result, ensure};
use campfire_tests::http::{Response, request};
use campfire_tests::relay::Settings;

use crate::scene::{Scene, scene_test};

async fn get(scene: &Scene, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
    request(&scene.relay.address(), "GET", path, headers, b"").await
}

fn with_dashboard(settings: Settings) -> Settings {
    settings
        .env("CAMPFIRE_DASHBOARD", "on")
        .env("CAMPFIRE_DASHBOARD_SESSION", "https://app.example.com/session?a=1&b=2")
        .env("CAMPFIRE_DASHBOARD_FRAME_ANCESTORS", "https://app.example.com")
}

#[scene_test]
async fn the_widget_is_served_to_pages_of_any_origin_and_no_dashboard_unless_it_is_wanted(
    scene: &mut Scene,
) -> Result<()> {
    let origin = [("origin", "https://shop.example.com")];
    let loader = get(scene, "/widget/loader.js", &origin).await?;
    ensure!(loader.status == 200, "{loader:?}");
    ensure!(loader.header("content-type") == Some("text/javascript; charset=utf-8"));
    ensure!(loader.header("access-control-allow-origin") == Some("*"));
    ensure!(loader.header("cross-origin-resource-policy") == Some("cross-origin"));
    ensure!(loader.header("cache-control") == Some("no-cache"));
    let etag = loader.header("etag").context("an etag")?;
    let again = get(scene, "/widget/loader.js", &[("if-none-match", etag)]).await?;
    ensure!(again.status == 304 && again.body.is_empty(), "{again:?}");
    let up = ["/widget/../dashboard/index.html", "/widget/%2e%2e/dashboard/index.html"];
    let outside = ["/widget/", "/widget/none.js"].into_iter().chain(up);
    for path in outside.chain(["/dashboard", "/dashboard/", "/dashboard/index.html"]) {
        let answer = get(scene, path, &[]).await?;
        ensure!(answer.status == 404, "{path}: {answer:?}");
    }
    Ok(())
}

#[scene_test(with_dashboard)]
async fn the_dashboard_has_a_strict_policy_and_knows_where_its_tokens_come_from(
    scene: &mut Scene,
) -> Result<()> {
    for path in ["/dashboard/", "/dashboard/index.html"] {
        let page = get(scene, path, &[]).await?;
        ensure!(page.status == 200, "{page:?}");
        let policy = page.header("content-security-policy").context("a policy")?;
        for directive in [
            "default-src 'none'",
            "script-src 'self'",
            "connect-src 'self' https://app.example.com",
            "frame-ancestors https://app.example.com",
            "require-trusted-types-for 'script'",
        ] {
            ensure!(policy.split("; ").any(|known| known == directive), "{directive}: {policy}");
        }
        let meta = "<meta name=\"campfire-session\" content=\"https://app.example.com/session?a=1&amp;b=2\"";
        ensure!(page.body.contains(meta), "{}", page.body);
    }
    let moved = get(scene, "/dashboard?session=/x", &[]).await?;
    ensure!(moved.status == 308 && moved.header("location") == Some("dashboard/?session=/x"), "{moved:?}");
    Ok(())
}
