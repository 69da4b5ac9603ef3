#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
printf 'Content-Type: text/plain\r\n\r\n'
exec status
