#!/usr/bin/perl
# Holds a listening socket and runs one server after the other on it, as a service manager does
# (sd_listen_fds(3)): supervisor.pl <port> <program> <arguments>. SIGHUP stops the server with SIGTERM and
# starts the next one. SIGTERM stops the server and this program.
use strict;
use warnings;
use POSIX ();
use Socket qw(:DEFAULT);

# Descriptors up to 3 stay open on exec.
$^F = 3;
my ( $port, @command ) = @ARGV;
socket( my $listener, PF_INET, SOCK_STREAM, 0 ) or die "socket: $!";
setsockopt( $listener, SOL_SOCKET, SO_REUSEADDR, 1 ) or die "setsockopt: $!";
bind( $listener, sockaddr_in( $port, INADDR_LOOPBACK ) ) or die "bind: $!";
listen( $listener, 1024 ) or die "listen: $!";

# Descriptor 3 may be this script, which has been read completely.
POSIX::dup2( fileno($listener), 3 ) // die "dup2: $!";

my ( $server, $wanted ) = ( 0, 'run' );
$SIG{HUP}  = sub { $wanted = 'restart'; kill TERM => $server };
$SIG{TERM} = sub { $wanted = 'end';     kill TERM => $server };
until ( $wanted eq 'end' ) {
    $wanted = 'run';
    $server = fork // die "fork: $!";
    if ( $server == 0 ) {
        @ENV{qw(LISTEN_PID LISTEN_FDS LISTEN_FDNAMES)} = ( $$, 1, 'web' );
        exec @command or die "exec: $!";
    }
    waitpid $server, 0 while kill 0 => $server;
    die "the server has ended by itself: $?" if $wanted eq 'run';
}
