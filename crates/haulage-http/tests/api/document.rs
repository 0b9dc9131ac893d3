//! `/openapi.json`, as `tests/openapi` tries it.

use haulage_http::server::{KeyFile, Scope};

use crate::client::{Site, add_key};

#[tokio::test]
async fn the_document_asks_for_a_key_where_the_server_does() {
    let mut secret = String::new();
    let guarded = Site::with(|builder, folder| {
        let path = folder.path().join("keys");
        secret = add_key(&path, "web", &[Scope::Read], Vec::new());
        builder.keys(KeyFile::open(&path).expect("open"))
    })
    .await;
    let document = guarded.client().with_key(&secret).get("/openapi.json").await.json();
    assert_eq!(document["security"], serde_json::json!([{ "key": [] }]));
    assert_eq!(document["components"]["securitySchemes"]["key"]["scheme"], "bearer");
    assert_eq!(
        document["paths"]["/v1/stats"]["get"]["description"],
        "Needs a key with the scope read or work or operate."
    );

    let open = Site::new().await.client().get("/openapi.json").await.json();
    assert_eq!((open.get("security"), open["components"].get("securitySchemes")), (None, None));
    assert_eq!(open["paths"]["/v1/stats"]["get"].get("description"), None);
}
