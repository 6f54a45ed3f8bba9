-- What belongs to the database itself: CREATE DATABASE ... TEMPLATE and pg_restore carry none of it.
REVOKE CONNECT, TEMPORARY ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO demo_app, demo_readonly, demo_migrator;
GRANT CREATE ON DATABASE :"DBNAME" TO demo_owner;
GRANT TEMPORARY ON DATABASE :"DBNAME" TO demo_app;
ALTER DATABASE :"DBNAME" OWNER TO demo_owner;
ALTER DATABASE :"DBNAME" CONNECTION LIMIT 40;
ALTER DATABASE :"DBNAME" SET idle_in_transaction_session_timeout = '10min';
ALTER DATABASE :"DBNAME" SET default_statistics_target = 50;
ALTER DATABASE :"DBNAME" SET app.label = 'it''s "the" demo';
ALTER ROLE demo_app IN DATABASE :"DBNAME" SET search_path = "org_MixedCase", public;
ALTER ROLE demo_app IN DATABASE :"DBNAME" SET statement_timeout = '30s';
COMMENT ON DATABASE :"DBNAME" IS 'A dozen organisations that buy and sell podcast advertising';
