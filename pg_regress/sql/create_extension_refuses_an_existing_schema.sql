\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
-- A squatter's schema would let its owner drop us.
begin;
create schema campfire;
create extension campfire;
\echo :LAST_ERROR_SQLSTATE
rollback;
