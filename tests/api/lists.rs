//! `/api/user/cellar` and `/api/user/wants`.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{JSON, TestApp, error_of, post_bytes};

const LISTS: [&str; 2] = ["/api/user/cellar", "/api/user/wants"];

#[tokio::test]
async fn a_list_is_replaced_whole_and_answered_ascending_each_item_once() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    for (list, other) in [(LISTS[0], LISTS[1]), (LISTS[1], LISTS[0])] {
        assert_eq!(app.get(Method::GET, list, &token, None).await, json!([]));
        let before = app.get(Method::GET, other, &token, None).await;
        let largest = 9_007_199_254_740_991_i64;
        let answer = app.get(Method::PUT, list, &token, Some(&json!([3, 1, largest, 2, 1]))).await;
        assert_eq!(answer, json!([1, 2, 3, largest]));
        assert_eq!(app.get(Method::GET, list, &token, None).await, answer);
        assert_eq!(app.get(Method::PUT, list, &token, Some(&json!([2]))).await, json!([2]));
        assert_eq!(app.get(Method::GET, other, &token, None).await, before, "the other list is its own");
    }
    let user = app.get(Method::GET, "/api/user", &token, None).await;
    assert_eq!((&user["cellar"], &user["wants"]), (&json!([2]), &json!([2])));
}

#[tokio::test]
async fn one_item_is_added_and_removed_and_doing_so_again_changes_nothing() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    for list in LISTS {
        for _ in 0..2 {
            assert_eq!(app.get(Method::PUT, &format!("{list}/7"), &token, None).await, json!([7]));
        }
        assert_eq!(app.get(Method::PUT, &format!("{list}/3/"), &token, None).await, json!([3, 7]));
        for _ in 0..2 {
            assert_eq!(app.get(Method::DELETE, &format!("{list}/7"), &token, None).await, json!([3]));
        }
    }
}

#[tokio::test]
async fn modified_moves_only_when_something_changed() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    let list = LISTS[0];
    let mut modified = app.get(Method::GET, "/api/user", &token, None).await["modified"].clone();
    for (method, path, body, moves) in [
        (Method::PUT, list.to_owned(), Some(json!([])), false),
        (Method::PUT, format!("{list}/1"), None, true),
        (Method::PUT, format!("{list}/1"), None, false),
        (Method::PUT, list.to_owned(), Some(json!([1])), false),
        (Method::PUT, list.to_owned(), Some(json!([1, 2])), true),
        (Method::DELETE, format!("{list}/9"), None, false),
        (Method::DELETE, format!("{list}/2"), None, true),
        (Method::GET, list.to_owned(), None, false),
    ] {
        app.clock.advance(Duration::from_secs(1));
        app.get(method.clone(), &path, &token, body.as_ref()).await;
        let now = app.get(Method::GET, "/api/user", &token, None).await["modified"].clone();
        assert_eq!(now != modified, moves, "{method} {path} {body:?}");
        modified = now;
    }
}

#[tokio::test]
async fn an_id_out_of_range_or_a_list_that_is_none_is_400_and_nothing_changed() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    for list in LISTS {
        app.get(Method::PUT, list, &token, Some(&json!([5]))).await;
        for body in [
            json!({}),
            json!({"cellar": [1]}),
            json!("1"),
            json!(1),
            json!(null),
            json!([0]),
            json!([-1]),
            json!([1.5]),
            json!([1, {"a": 1}]),
            json!(["1"]),
            json!([null]),
            json!([[1]]),
            json!([true]),
            json!([1, 2, 9_007_199_254_740_992_i64]),
            json!([u64::MAX]),
            json!([1e300]),
        ] {
            let error = error_of(app.ask(Method::PUT, list, &token, Some(&body)).await, 400).await;
            assert!(error.starts_with("Invalid Data: "), "{error}");
        }
        for id in ["0", "-1", "1.0", "x", "+1", "01", "%31%20", "9007199254740992", "99999999999999999999999"] {
            for method in [Method::PUT, Method::DELETE] {
                let response = app.ask(method, &format!("{list}/{id}"), &token, None).await;
                let error = error_of(response, 400).await;
                assert_eq!(error, "Invalid Data: item_id must be a whole number from 1 to 9007199254740991", "{id}");
            }
        }
        assert_eq!(app.get(Method::GET, list, &token, None).await, json!([5]));
    }
}

#[tokio::test]
async fn a_whole_number_is_an_item_id_however_it_is_written() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    for list in LISTS {
        assert_eq!(app.get(Method::PUT, list, &token, Some(&json!([2.0, 1, 1.0]))).await, json!([1, 2]));
    }
}

#[tokio::test]
async fn past_max_items_is_400_and_nothing_changed() {
    let app = TestApp::spawn_with(|config| config.lists.max_items = 3);
    let token = app.new_user("AzureDiamond").await;
    for list in LISTS {
        app.get(Method::PUT, list, &token, Some(&json!([1, 2]))).await;
        let response = app.ask(Method::PUT, list, &token, Some(&json!([4, 5, 6, 7]))).await;
        assert_eq!(error_of(response, 400).await, "Invalid Data: the list is full");
        assert_eq!(app.get(Method::PUT, &format!("{list}/3"), &token, None).await, json!([1, 2, 3]));
        let response = app.ask(Method::PUT, &format!("{list}/4"), &token, None).await;
        assert_eq!(error_of(response, 400).await, "Invalid Data: the list is full");
        assert_eq!(app.get(Method::PUT, &format!("{list}/3"), &token, None).await, json!([1, 2, 3]), "it is there");
        assert_eq!(app.get(Method::PUT, list, &token, Some(&json!([7, 8, 9, 9]))).await, json!([7, 8, 9]));
    }
}

#[tokio::test]
async fn a_list_of_ten_thousand_is_taken_and_answered() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    let all: Vec<i64> = (1..=10_000).map(|number| number * 900_000_000_000).collect();
    let answer = app.get(Method::PUT, LISTS[0], &token, Some(&json!(all))).await;
    assert_eq!(answer, json!(all));
    let fewer: Vec<i64> = all.iter().copied().filter(|id| id % 2 == 0).collect();
    assert_eq!(app.get(Method::PUT, LISTS[0], &token, Some(&json!(fewer))).await, json!(fewer));
}

#[tokio::test]
async fn adds_and_removes_from_many_devices_lose_nothing() {
    let app = Arc::new(TestApp::spawn());
    let token = app.new_user("AzureDiamond").await;
    app.get(Method::PUT, LISTS[0], &token, Some(&json!((101..=140).collect::<Vec<i64>>()))).await;
    let edits: Vec<_> = (1..=40)
        .map(|number| {
            let (app, token) = (Arc::clone(&app), token.clone());
            tokio::spawn(async move {
                let list = LISTS[0];
                let added = app.get(Method::PUT, &format!("{list}/{number}"), &token, None).await;
                assert!(added.as_array().unwrap().contains(&Value::from(number)));
                app.get(Method::DELETE, &format!("{list}/{}", number + 100), &token, None).await;
            })
        })
        .collect();
    for edit in edits {
        edit.await.unwrap();
    }
    let expected: Vec<i64> = (1..=40).collect();
    assert_eq!(app.get(Method::GET, LISTS[0], &token, None).await, json!(expected));
}

#[tokio::test]
async fn a_strangers_body_is_not_read_before_the_401() {
    let app = TestApp::spawn();
    for (method, path) in [("PUT", LISTS[0]), ("PATCH", "/api/user"), ("POST", "/api/user/password")] {
        let request = post_bytes(path, &format!("{JSON}Authorization: Token x\r\n"), "not json");
        let request = String::from_utf8(request).unwrap().replacen("POST", method, 1);
        app.raw(request.replace("Content-Length: 8", "Content-Length: 100000")).assert_error(401);
    }
}
